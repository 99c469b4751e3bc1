<?php
// An API client in PHP, written from the vendor's page without this package's code. It reads a JSON list of calls from
// standard input, each as [path, fields, names of the signed fields], and prints a JSON list of the replies' bodies.
function call(string $path, array $fields, array $signed): string
{
    $text = getenv('WITNESS_APPKEY');
    foreach ($signed as $name) {
        $text .= $fields[$name];
    }
    $fields['appkey'] = getenv('WITNESS_APPKEY');
    $fields['sign'] = md5(md5($text) . getenv('WITNESS_APPSECRET'));
    if ($path === 'order/check') { // the only endpoint that is a GET
        return file_get_contents(getenv('WITNESS_BASE_URL') . $path . '?' . http_build_query($fields));
    }
    $options = ['method' => 'POST', 'header' => 'Content-Type: application/x-www-form-urlencoded',
        'content' => http_build_query($fields)];
    return file_get_contents(getenv('WITNESS_BASE_URL') . $path, false, stream_context_create(['http' => $options]));
}

$bodies = [];
foreach (json_decode(file_get_contents('php://stdin'), true) as [$path, $fields, $signed]) {
    $bodies[] = call($path, $fields, $signed);
}
echo json_encode($bodies, JSON_UNESCAPED_UNICODE);
