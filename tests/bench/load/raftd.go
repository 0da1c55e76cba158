package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"
)

// varlink is a connection to raftd's socket: JSON objects, each ended by a NUL byte.
type varlink struct {
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
}

var encodedValue string

func setValue(value []byte) {
	encodedValue = base64.StdEncoding.EncodeToString(value)
}

func dial(target string, _ int) (session, error) {
	conn, err := net.Dial("unix", target)
	for errors.Is(err, syscall.EAGAIN) { // the queue of those who want in is full: connect(2)
		time.Sleep(10 * time.Millisecond)
		conn, err = net.Dial("unix", target)
	}
	if err != nil {
		return nil, err
	}
	return &varlink{conn: conn, reader: bufio.NewReaderSize(conn, 64<<10)}, nil
}

func appendCall(buffer []byte, get bool, key string) []byte {
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	if get {
		buffer = append(buffer, `{"method":"io.raftd.KV.Get","parameters":{"key":"`...)
		buffer = append(buffer, encoded...)
	} else {
		buffer = append(buffer, `{"method":"io.raftd.KV.Put","parameters":{"key":"`...)
		buffer = append(buffer, encoded...)
		buffer = append(buffer, `","value":"`...)
		buffer = append(buffer, encodedValue...)
	}
	return append(buffer, "\"}}\x00"...)
}

// answer waits for one. An error is the daemon's, or that of a connection which is of no more use.
func (v *varlink) answer() error {
	text, err := v.reader.ReadSlice(0)
	for err == bufio.ErrBufferFull { // a large value: what has come is not wanted
		head := string(text[:64])
		text, err = v.reader.ReadSlice(0)
		if err == nil {
			text = []byte(head)
		}
	}
	if err != nil {
		fail(err)
	}
	if strings.HasPrefix(string(text[:min(len(text), 9)]), `{"error"`) {
		return errors.New(string(text))
	}
	return nil
}

func (v *varlink) call(get bool, key string) error {
	v.buffer = appendCall(v.buffer[:0], get, key)
	if _, err := v.conn.Write(v.buffer); err != nil {
		fail(err)
	}
	return v.answer()
}

func (v *varlink) put(key string) error { return v.call(false, key) }
func (v *varlink) get(key string) error { return v.call(true, key) }
func (v *varlink) close()               { v.conn.Close() }

// pipelined keeps `window` calls in flight: answers come in the order of the calls.
func (l *load) pipelined(s session, window int, result *seen) {
	v := s.(*varlink)
	starts := make(chan time.Time, window)
	done := make(chan struct{})
	go func() {
		for start := range starts {
			l.record(result, start, v.answer())
		}
		close(done)
	}()
	writer := bufio.NewWriterSize(v.conn, 64<<10)
	flush := func() {
		if err := writer.Flush(); err != nil {
			fail(err)
		}
	}
	for {
		now := time.Now()
		key, more := l.next(now)
		if !more {
			break
		}
		v.buffer = appendCall(v.buffer[:0], l.get, key)
		if _, err := writer.Write(v.buffer); err != nil {
			fail(err)
		}
		select {
		case starts <- now:
		default: // the window is full: what is written must go before one can wait
			flush()
			starts <- now
		}
	}
	flush()
	close(starts)
	<-done
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
