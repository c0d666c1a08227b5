// Sends records with kafka-go as it comes: go run . BROKERS < records.jsonl
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
)

func main() {
	writer := &kafka.Writer{Addr: kafka.TCP(os.Args[1]), BatchTimeout: 10 * time.Millisecond}
	var messages []kafka.Message
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var record [3]string
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			log.Fatal(err)
		}
		messages = append(messages, kafka.Message{
			Topic: record[0], Key: []byte(record[1]), Value: []byte(record[2]),
		})
	}
	if err := writer.WriteMessages(context.Background(), messages...); err != nil {
		log.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		log.Fatal(err)
	}
}
