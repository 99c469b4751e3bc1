<?php
// Multiplies prices by quantities with PHP's floats. It reads a JSON list of [price, quantity] from standard input, and
// prints a JSON list of the products, each as json_encode() writes it with the precision set by serialize_precision.
$products = [];
foreach (json_decode(file_get_contents('php://stdin'), true) as [$price, $quantity]) {
    $products[] = json_encode($price * $quantity);
}
echo json_encode($products);
