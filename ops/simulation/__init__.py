"""The fleet's mind on a simulated clock against a modelled mail world: no Kafka, no waiting, no mail."""
