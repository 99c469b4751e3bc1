<?php
// A merchant's server for callbacks in PHP, written from the vendor's page (支付成功回调接口) without our code.
// `php -S` runs it. It receives callbacks as GET and POST, and responds with success or fail. For each callback, it
// appends a line to the file WITNESS_LOG.
$form = $_SERVER['REQUEST_METHOD'] === 'POST' ? $_POST : $_GET;
$appkey = getenv('WITNESS_APPKEY');
$names = ['order_id', 'out_order_id', 'price', 'realprice', 'type', 'paytime', 'extend'];

function verdict(array $form, string $appkey, array $names): string
{
    $text = $appkey;
    foreach ($names as $name) {
        if (!isset($form[$name]) || !is_string($form[$name])) {
            return 'incomplete';
        }
        $text .= $form[$name];
    }
    if (isset($form['appkey']) && $form['appkey'] !== $appkey) {
        return 'another shop';
    }
    $sign = md5(md5($text) . getenv('WITNESS_APPSECRET'));
    if (!isset($form['sign']) || !is_string($form['sign']) || !hash_equals($sign, $form['sign'])) {
        return 'forged';
    }
    return (float) $form['realprice'] < (float) $form['price'] ? 'underpaid' : 'success';
}

$verdict = verdict($form, $appkey, $names);
$entry = ['method' => $_SERVER['REQUEST_METHOD'], 'verdict' => $verdict, 'has_appkey' => isset($form['appkey'])];
foreach ($names as $name) {
    $entry[$name] = $form[$name] ?? null;
}
file_put_contents(getenv('WITNESS_LOG'), json_encode($entry, JSON_UNESCAPED_UNICODE) . "\n", FILE_APPEND | LOCK_EX);
header('Content-Type: text/html; charset=utf-8');
echo $verdict === 'success' ? 'success' : 'fail';
