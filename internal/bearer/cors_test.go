package bearer

import "testing"

func TestCheckOrigin(t *testing.T) {
	for origin, good := range map[string]bool{
		"https://app.example.com": true, "http://localhost:3000": true, "https://app.example.com:8443": true, "http://[::1]:3000": true,
		"chrome-extension://abcdef": true,
		"https://app.example.com/":  false, "https://app.example.com/x": false, "https://App.example.com": false, "app.example.com": false,
		"*": false, "null": false, "": false, "https://app.example.com:443": false, "http://app.example.com:80": false,
		"https://u@app.example.com": false, "https://app.example.com?x": false, "https://": false, "HTTPS://app.example.com": false,
	} {
		if err := CheckOrigin(origin); (err == nil) != good {
			t.Errorf("%q: %v", origin, err)
		}
	}
}
