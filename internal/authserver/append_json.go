package authserver

import (
	"encoding/json"
	"strconv"
)

// What every token request writes is appended member by member, since encoding/json takes longer over it than all else
// but the signature.

// appendText appends a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string is never an error
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendMember appends a member of an object that has others before it.
func appendMember(b []byte, name, value string) []byte {
	return appendText(appendName(b, name), value)
}

// appendNumber is appendMember for a number.
func appendNumber(b []byte, name string, value int64) []byte {
	return strconv.AppendInt(appendName(b, name), value, 10)
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}
