// Sends the events of standard input to an address in each mode, and prints the replies; see
// tests/end_to_end/test_sdks.py.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

type sent struct {
	Attributes map[string]string `json:"attributes"`
	Text       *string           `json:"text"`
	Base64     []byte            `json:"base64"`
	JSON       json.RawMessage   `json:"json"`
}

type reply struct {
	ID     string          `json:"id"`
	Mode   string          `json:"mode"`
	Status int             `json:"status"`
	Reply  json.RawMessage `json:"reply"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func (one sent) event() event.Event {
	made := event.New()
	for name, value := range one.Attributes {
		switch name {
		case "id":
			made.SetID(value)
		case "source":
			made.SetSource(value)
		case "type":
			made.SetType(value)
		case "subject":
			made.SetSubject(value)
		case "dataschema":
			made.SetDataSchema(value)
		case "datacontenttype":
			made.SetDataContentType(value)
		case "time":
			made.SetTime(must(time.Parse(time.RFC3339Nano, value)))
		default:
			made.SetExtension(name, value)
		}
	}
	kind := one.Attributes["datacontenttype"]
	switch {
	case one.Text != nil:
		must(0, made.SetData(kind, *one.Text))
	case one.Base64 != nil:
		must(0, made.SetData(kind, one.Base64))
	case one.JSON != nil:
		must(0, made.SetData(kind, one.JSON))
	}
	return made
}

func request(mode string, address string, one event.Event) *http.Request {
	ctx := context.Background()
	switch mode {
	case "structured":
		ctx = binding.WithForceStructured(ctx)
	case "binary":
		ctx = binding.WithForceBinary(ctx)
	case "batch":
		return must(cehttp.NewHTTPRequestFromEvents(ctx, address, []event.Event{one}))
	}
	return must(cehttp.NewHTTPRequestFromEvent(ctx, address, one))
}

func main() {
	var events []sent
	must(0, json.NewDecoder(os.Stdin).Decode(&events))
	replies := []reply{}
	for _, one := range events {
		for _, mode := range []string{"structured", "binary", "batch"} {
			response := must(http.DefaultClient.Do(request(mode, os.Args[1], one.event())))
			got := reply{ID: one.Attributes["id"], Mode: mode, Status: response.StatusCode}
			must(0, json.NewDecoder(response.Body).Decode(&got.Reply))
			must(0, response.Body.Close())
			replies = append(replies, got)
		}
	}
	must(0, json.NewEncoder(os.Stdout).Encode(replies))
}
