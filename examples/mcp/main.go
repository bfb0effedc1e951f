// Command mcp is a server of the Model Context Protocol (Streamable HTTP) with two tools, for a site whose guard has checked the token
// of each request. It knows nothing of OAuth: the header X-User says who the user is, and nobody but the guard can set it. So it must
// not be reachable but through the site.
//
//	go run ./examples/mcp 127.0.0.1:9089
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mcp <address>")
		os.Exit(2)
	}
	server := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(serve), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// revisions are those that the server speaks, the latest last. It keeps no sessions, so that all of them look alike.
var revisions = []string{"2025-03-26", "2025-06-18", "2025-11-25"}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name            string         `json:"name"`
		Arguments       map[string]any `json:"arguments"`
		ProtocolVersion string         `json:"protocolVersion"`
	} `json:"params"`
}

type object map[string]any

// serve answers a message. Only requests have an ID.
func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "This server has no streams and no sessions.", http.StatusMethodNotAllowed)
		return
	}
	var m message
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&m); err != nil {
		http.Error(w, "The body is not a message.", http.StatusBadRequest)
		return
	}
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	answer, status := object{"jsonrpc": "2.0", "id": m.ID}, http.StatusOK
	if result := answerTo(&m, r.Header.Get("X-User")); result != nil {
		answer["result"] = result
	} else {
		answer["error"], status = object{"code": -32601, "message": "Method not found"}, http.StatusNotFound
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		log.Print(err)
	}
}

// answerTo returns the result of a method, nil if there is no such method.
func answerTo(m *message, user string) object {
	switch m.Method {
	case "initialize":
		revision := m.Params.ProtocolVersion
		if !slices.Contains(revisions, revision) {
			revision = revisions[len(revisions)-1]
		}
		return object{
			"protocolVersion": revision, "capabilities": object{"tools": object{}}, "serverInfo": object{"name": "orders", "version": "1.0.0"},
		}
	case "ping":
		return object{}
	case "tools/list":
		return object{"tools": []object{
			tool("get_order", "Shows an order."),
			tool("delete_order", "Deletes an order."),
		}}
	case "tools/call":
		id := m.Params.Arguments["id"]
		switch m.Params.Name {
		case "get_order":
			return text(fmt.Sprintf("Order %v belongs to %s.", id, user))
		case "delete_order":
			return text(fmt.Sprintf("%s has deleted order %v.", user, id))
		}
		failed := text("There is no tool of that name.")
		failed["isError"] = true
		return failed
	}
	return nil
}

func tool(name, description string) object {
	return object{"name": name, "description": description, "inputSchema": object{
		"type": "object", "properties": object{"id": object{"type": "string"}}, "required": []string{"id"},
	}}
}

func text(s string) object { return object{"content": []object{{"type": "text", "text": s}}} }
