package load

import (
	"encoding/base64"
	"net/url"
	"strconv"
)

// post returns a request of a client with a form, as it goes over the wire.
func post(address, path string, client Client, form url.Values) []byte {
	return appendPost(nil, head(address, path, client), form.Encode())
}

// head returns the beginning of all requests of a client to an endpoint, up to the length of the form.
func head(address, path string, client Client) string {
	return "POST " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Basic " + basic(client) +
		"\r\nContent-Type: application/x-www-form-urlencoded\r\nAccept: application/json\r\nContent-Length: "
}

// appendPost appends a request to buf: its head, and its form.
func appendPost(buf []byte, head, form string) []byte {
	buf = append(buf, head...)
	buf = strconv.AppendInt(buf, int64(len(form)), 10)
	buf = append(buf, "\r\n\r\n"...)
	return append(buf, form...)
}

// basic returns the credentials of a client (RFC 6749 §2.3.1).
func basic(client Client) string {
	return base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(client.ID) + ":" + url.QueryEscape(client.Secret)))
}

// get returns a request for a page, as it goes over the wire. token may be "".
func get(address, path, token string) []byte {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAccept: */*\r\n"
	if token != "" {
		request += "Authorization: Bearer " + token + "\r\n"
	}
	return []byte(request + "\r\n")
}
