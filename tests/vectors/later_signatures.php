<?php
// Prints later_signatures.json: `php later_signatures.php > later_signatures.json`. Shares nothing with the package.

$shops = [
    ['gp6appkey0123456789abcdef', 'gp6secret-FEDCBA9876543210'],
    ['098f6bcd4621d373cade4e832627b4f6', '秘密-ключ 1'],
];
// What is signed, in order, after the appkey: as the vendor's later page has it.
$orders = [
    'anypay/create' => ['price', 'type', 'out_order_id', 'custom'],
    'cloudpay/create' => ['price', 'type', 'out_order_id', 'custom'],
    'grouppay/create' => ['fields', 'type', 'out_order_id', 'custom'],
    'stablepay/create' => ['product_id', 'type', 'out_order_id', 'custom'],
    'order/check' => ['out_order_id'],
    'return' => ['price', 'type', 'product_id', 'order_id', 'out_order_id'],
];
$texts = [
    ['T-1001-X', 'terry@example.com'],
    ['5cc75a6a0b418', '微信 用户+1 & co'],
    ["O'1 %20/é", "a=b&c=d"],
];
$amounts = ['10.23', '1.00', '999999999.99'];
$items = ['8:2,7:3', '8:1', '9223372036854775807:1,1:100'];
$products = ['8', '10086', '9223372036854775807'];

$signatures = [];
foreach ($orders as $kind => $order) {
    foreach ($shops as [$appkey, $appsecret]) {
        foreach ($texts as $i => [$number, $custom]) {
            $all = [
                'price' => $amounts[$i],
                'fields' => $items[$i],
                'product_id' => $products[$i],
                'type' => ['wechat', 'alipay', 'alipay'][$i],
                'order_id' => ['522', '1', '9000000001'][$i],
                'out_order_id' => $number,
                'custom' => $custom,
            ];
            $params = [];
            if ($kind !== 'return') {
                $params['appkey'] = $appkey;
            }
            $text = $appkey;
            foreach ($order as $name) {
                $params[$name] = $all[$name];
                $text .= $all[$name];
            }
            $sign = md5(md5($text) . $appsecret);
            $signatures[] = [
                'kind' => $kind,
                'params' => $params,
                'appkey' => $appkey,
                'appsecret' => $appsecret,
                'sign' => $sign,
                'encoded' => http_build_query($params + ['sign' => $sign]),
            ];
        }
    }
}
echo json_encode(
    ['note' => 'Computed by later_signatures.php. `encoded` is one valid form or query.', 'signatures' => $signatures],
    JSON_PRETTY_PRINT | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES
), "\n";
