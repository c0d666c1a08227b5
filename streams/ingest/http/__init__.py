"""``seatflow receive``: an HTTP receiver for systems that push. It answers when Kafka has it."""
