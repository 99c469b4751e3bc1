<?php
// Multiplies prices by quantities, with PHP's floats. It reads a JSON list of [price, quantity] from standard input, and
// prints a JSON list of the products, each as the text that json_encode() writes with the set serialize_precision.
$written = [];
foreach (json_decode(file_get_contents('php://stdin'), true) as [$price, $number]) {
    $written[] = json_encode($price * $number);
}
echo json_encode($written);
