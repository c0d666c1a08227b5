#!/bin/sh
# Prints the outcome of the events on the engine itself: two users licensed, one without a seat.
seatflow simulate "$(dirname "$0")/onboarding.jsonl"
