#!/bin/sh
# Converts a CSV file to events; without --out they would be published.
seatflow feed csv "$(dirname "$0")/users.csv" --tenant contoso --out "${1:-events.jsonl}"
