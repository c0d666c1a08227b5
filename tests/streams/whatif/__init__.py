"""Tests of the what-if engine, which the console and ``seatflow simulate`` share."""
