package main

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

type etcd struct {
	client *clientv3.Client
	shared bool
}

var (
	value  string
	opened []*clientv3.Client
)

func setValue(bytes []byte) { value = string(bytes) }

// dial: gRPC carries many calls on a connection.
func dial(target string, number int) (session, error) {
	if *connections > 0 && number >= *connections {
		return &etcd{opened[number%*connections], true}, nil
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{target}, DialTimeout: 5 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	opened = append(opened, client)
	return &etcd{client, false}, nil
}

func (e *etcd) put(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := e.client.Put(ctx, key, value)
	return err
}

func (e *etcd) get(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := e.client.Get(ctx, key)
	return err
}

func (e *etcd) close() {
	if !e.shared {
		e.client.Close()
	}
}

// pipelined keeps `window` calls in flight on one connection, which is what gRPC does best.
func (l *load) pipelined(s session, window int, result *seen) {
	results := make([]seen, window)
	var running sync.WaitGroup
	for number := range results {
		running.Add(1)
		go func(number int) {
			defer running.Done()
			l.one(s, &results[number])
		}(number)
	}
	running.Wait()
	for _, each := range results {
		result.nanoseconds = append(result.nanoseconds, each.nanoseconds...)
		result.errors += each.errors
		if result.firstError == nil {
			result.firstError = each.firstError
		}
	}
}
