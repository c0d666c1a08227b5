// Sends records with kafkajs as it comes: node kafkajs.js BROKERS < records.jsonl
const { readFileSync } = require("node:fs");
const { Kafka, logLevel } = require("kafkajs");

async function main() {
  const records = readFileSync(0, "utf8").trim().split("\n").map(JSON.parse);
  const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.ERROR });
  const producer = kafka.producer();
  await producer.connect();
  for (const [topic, key, value] of records) {
    await producer.send({ topic, messages: [{ key, value }] });
  }
  await producer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
