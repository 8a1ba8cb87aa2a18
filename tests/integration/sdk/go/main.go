// Drives Go's SDK for the tests, by the same lines of JSON as driver.mjs beside this.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

const patience = 20 * time.Second

type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// filter compares one tag: the tests' own are no more than that.
type filter struct {
	Key string `json:"key"`
	Cmp string `json:"cmp"`
	Val string `json:"val"`
}

// call is one line of the test: an operation, or the answer to a question.
type call struct {
	ID           int               `json:"id"`
	Op           string            `json:"op"`
	Client       string            `json:"client"`
	Subscription string            `json:"subscription"`
	Channel      string            `json:"channel"`
	URL          string            `json:"url"`
	Token        string            `json:"token"`
	Protobuf     bool              `json:"protobuf"`
	Asks         bool              `json:"asks"`
	PingDelay    float64           `json:"pingDelay"`
	Positioned   bool              `json:"positioned"`
	Recoverable  bool              `json:"recoverable"`
	JoinLeave    bool              `json:"joinLeave"`
	Delta        string            `json:"delta"`
	TagsFilter   *filter           `json:"tagsFilter"`
	Loads        bool              `json:"loads"`
	Items        []json.RawMessage `json:"items"`
	Data         json.RawMessage   `json:"data"`
	Method       string            `json:"method"`
	Limit        int32             `json:"limit"`
	Since        *position         `json:"since"`
	Reverse      bool              `json:"reverse"`
	Ask          int               `json:"ask"`
	Failure      string            `json:"failure"`
}

type fields map[string]any

var (
	mutex         sync.Mutex
	clients       = map[string]*centrifuge.Client{}
	subscriptions = map[string]*centrifuge.Subscription{}
	questions     = map[int]chan call{}
	output        = json.NewEncoder(os.Stdout)
	writing       sync.Mutex
)

func tell(message fields) {
	writing.Lock()
	defer writing.Unlock()
	if err := output.Encode(message); err != nil {
		os.Exit(1)
	}
}

// ask has the test answer with a token.
func ask(client, channel string) (string, error) {
	answer := make(chan call, 1)
	mutex.Lock()
	id := len(questions) + 1
	questions[id] = answer
	mutex.Unlock()
	tell(fields{"ask": id, "client": client, "channel": channel})
	given := <-answer
	switch given.Failure {
	case "":
		return given.Token, nil
	case "unauthorized":
		return "", centrifuge.ErrUnauthorized
	}
	return "", errors.New(given.Failure)
}

type wrapped struct {
	Bytes []byte `json:"$bytes"`
}

func wrap(item json.RawMessage) []byte {
	var binary wrapped
	if err := json.Unmarshal(item, &binary); err == nil && binary.Bytes != nil {
		return binary.Bytes
	}
	if item == nil {
		return []byte("null")
	}
	return item
}

func unwrap(data []byte) any {
	if len(data) == 0 {
		return nil
	}
	if json.Valid(data) {
		return json.RawMessage(data)
	}
	return wrapped{data}
}

func info(of centrifuge.ClientInfo) fields {
	return fields{
		"user": of.User, "client": of.Client,
		"conn_info": unwrap(of.ConnInfo), "chan_info": unwrap(of.ChanInfo),
	}
}

func publication(of centrifuge.Publication) fields {
	found := fields{"name": "publication", "data": unwrap(of.Data), "offset": of.Offset, "tags": of.Tags}
	if of.Info != nil {
		found["info"] = info(*of.Info)
	}
	return found
}

func subscribed(of centrifuge.SubscribedEvent) fields {
	found := fields{
		"name": "subscribed", "positioned": of.Positioned, "recoverable": of.Recoverable,
		"was_recovering": of.WasRecovering, "recovered": of.Recovered, "data": unwrap(of.Data),
	}
	if of.StreamPosition != nil {
		found["offset"], found["epoch"] = of.StreamPosition.Offset, of.StreamPosition.Epoch
	}
	return found
}

func failure(err error) fields {
	var refused *centrifuge.Error
	if errors.As(err, &refused) {
		return fields{"code": refused.Code, "message": refused.Message}
	}
	return fields{"code": 0, "message": err.Error()}
}

func failed(err error) fields {
	found := failure(err)
	return fields{"name": "error", "code": found["code"], "reason": found["message"]}
}

func coded(name string, code uint32, reason string) fields {
	return fields{"name": name, "code": code, "reason": reason}
}

func create(c call) {
	config := centrifuge.Config{
		Token:              c.Token,
		MinReconnectDelay:  50 * time.Millisecond,
		MaxReconnectDelay:  500 * time.Millisecond,
		MaxServerPingDelay: time.Duration(c.PingDelay) * time.Millisecond,
	}
	if c.Asks {
		config.GetToken = func(centrifuge.ConnectionTokenEvent) (string, error) { return ask(c.Client, "") }
	}
	make := centrifuge.NewJsonClient
	if c.Protobuf {
		make = centrifuge.NewProtobufClient
	}
	client := make(c.URL, config)
	mutex.Lock()
	clients[c.Client] = client
	mutex.Unlock()
	report := func(channel string, event fields) {
		if channel != "" {
			event["channel"] = channel
		}
		tell(fields{"client": c.Client, "event": event})
	}
	client.OnConnecting(func(e centrifuge.ConnectingEvent) { report("", coded("connecting", e.Code, e.Reason)) })
	client.OnConnected(func(e centrifuge.ConnectedEvent) {
		report("", fields{"name": "connected", "client": e.ClientID})
	})
	client.OnDisconnected(func(e centrifuge.DisconnectedEvent) { report("", coded("disconnected", e.Code, e.Reason)) })
	client.OnError(func(e centrifuge.ErrorEvent) { report("", failed(e.Error)) })
	client.OnMessage(func(e centrifuge.MessageEvent) {
		report("", fields{"name": "message", "data": unwrap(e.Data)})
	})
	client.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) {
		report(e.Channel, subscribed(centrifuge.SubscribedEvent{
			Positioned: e.Positioned, Recoverable: e.Recoverable, StreamPosition: e.StreamPosition,
			WasRecovering: e.WasRecovering, Recovered: e.Recovered, Data: e.Data,
		}))
	})
	client.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) { report(e.Channel, fields{"name": "unsubscribed"}) })
	client.OnPublication(func(e centrifuge.ServerPublicationEvent) { report(e.Channel, publication(e.Publication)) })
	client.OnJoin(func(e centrifuge.ServerJoinEvent) {
		report(e.Channel, fields{"name": "join", "info": info(e.ClientInfo)})
	})
	client.OnLeave(func(e centrifuge.ServerLeaveEvent) {
		report(e.Channel, fields{"name": "leave", "info": info(e.ClientInfo)})
	})
}

func subscription(c call, client *centrifuge.Client) error {
	config := centrifuge.SubscriptionConfig{
		Token:               c.Token,
		Positioned:          c.Positioned,
		Recoverable:         c.Recoverable,
		JoinLeave:           c.JoinLeave,
		Delta:               centrifuge.DeltaType(c.Delta),
		MinResubscribeDelay: 50 * time.Millisecond,
		MaxResubscribeDelay: 500 * time.Millisecond,
	}
	if c.Asks {
		config.GetToken = func(centrifuge.SubscriptionTokenEvent) (string, error) { return ask(c.Client, c.Channel) }
	}
	if c.TagsFilter != nil {
		if c.TagsFilter.Cmp != "eq" {
			return errors.New("this driver knows no other comparison than eq")
		}
		config.TagsFilter = centrifuge.FilterEq(c.TagsFilter.Key, c.TagsFilter.Val)
	}
	if c.Loads {
		config.GetState = func(centrifuge.SubscriptionGetStateEvent) (centrifuge.StreamPosition, error) {
			var loaded position
			answer, err := ask(c.Client, "state of "+c.Channel)
			if err == nil {
				err = json.Unmarshal([]byte(answer), &loaded)
			}
			return centrifuge.StreamPosition{Offset: loaded.Offset, Epoch: loaded.Epoch}, err
		}
	}
	made, err := client.NewSubscription(c.Channel, config)
	if err != nil {
		return err
	}
	mutex.Lock()
	subscriptions[c.Subscription] = made
	mutex.Unlock()
	report := func(event fields) {
		event["channel"] = c.Channel
		tell(fields{"client": c.Client, "subscription": c.Subscription, "event": event})
	}
	made.OnSubscribing(func(e centrifuge.SubscribingEvent) { report(coded("subscribing", e.Code, e.Reason)) })
	made.OnSubscribed(func(e centrifuge.SubscribedEvent) { report(subscribed(e)) })
	made.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { report(coded("unsubscribed", e.Code, e.Reason)) })
	made.OnPublication(func(e centrifuge.PublicationEvent) { report(publication(e.Publication)) })
	made.OnJoin(func(e centrifuge.JoinEvent) { report(fields{"name": "join", "info": info(e.ClientInfo)}) })
	made.OnLeave(func(e centrifuge.LeaveEvent) { report(fields{"name": "leave", "info": info(e.ClientInfo)}) })
	made.OnError(func(e centrifuge.SubscriptionErrorEvent) { report(failed(e.Error)) })
	return nil
}

func perform(c call) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	mutex.Lock()
	client, sub := clients[c.Client], subscriptions[c.Subscription]
	mutex.Unlock()
	switch c.Op {
	case "create":
		create(c)
	case "subscription":
		return nil, subscription(c, client)
	case "connect":
		_ = client.Connect() // it tries again by itself
	case "disconnect":
		return nil, client.Disconnect()
	case "flicker":
		_ = client.Connect()
		return nil, client.Disconnect()
	case "state":
		return client.State(), nil
	case "subscribe":
		return nil, sub.Subscribe()
	case "unsubscribe":
		return nil, sub.Unsubscribe()
	case "remove":
		return nil, client.RemoveSubscription(sub)
	case "publish":
		for _, item := range c.Items {
			if _, err := client.Publish(ctx, c.Channel, wrap(item)); err != nil {
				return nil, err
			}
		}
	case "presence":
		result, err := client.Presence(ctx, c.Channel)
		found := fields{}
		for id, member := range result.Clients {
			found[id] = info(member)
		}
		return found, err
	case "presenceStats":
		result, err := client.PresenceStats(ctx, c.Channel)
		return []int{result.NumClients, result.NumUsers}, err
	case "history":
		return history(ctx, c, client)
	case "rpc":
		result, err := client.RPC(ctx, c.Method, wrap(c.Data))
		return unwrap(result.Data), err
	case "send":
		return nil, client.Send(ctx, wrap(c.Data))
	}
	return nil, nil
}

func history(ctx context.Context, c call, client *centrifuge.Client) (any, error) {
	options := []centrifuge.HistoryOption{centrifuge.WithHistoryLimit(c.Limit), centrifuge.WithHistoryReverse(c.Reverse)}
	if c.Since != nil {
		since := centrifuge.StreamPosition{Offset: c.Since.Offset, Epoch: c.Since.Epoch}
		options = append(options, centrifuge.WithHistorySince(&since))
	}
	result, err := client.History(ctx, c.Channel, options...)
	publications := []fields{}
	for _, each := range result.Publications {
		publications = append(publications, publication(each))
	}
	return fields{"publications": publications, "offset": result.Offset, "epoch": result.Epoch}, err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		if c.Ask != 0 {
			mutex.Lock()
			answer := questions[c.Ask]
			mutex.Unlock()
			answer <- c
			continue
		}
		go func() {
			result, err := perform(c)
			if err != nil {
				tell(fields{"id": c.ID, "error": failure(err)})
			} else {
				tell(fields{"id": c.ID, "result": result})
			}
		}()
	}
}
