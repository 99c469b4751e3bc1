<?php
// What PHP makes of price × quantity: reads [[text, number], …] from standard input, prints the products as one JSON list
// of texts, each as json_encode() writes it under the serialize_precision that it was started with.
$written = [];
foreach (json_decode(file_get_contents('php://stdin'), true) as [$price, $number]) {
    $written[] = json_encode($price * $number);
}
echo json_encode($written);
