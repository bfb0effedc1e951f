// Package pagestest helps tests to read the pages of this module: as HTML, or in a real browser.
package pagestest

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"

	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// Parts returns the start tags of a page, and its text outside <style> and <script>.
func Parts(body io.Reader) (tags []html.Token, text string) {
	raw := false
	for z := html.NewTokenizer(body); z.Next() != html.ErrorToken; {
		switch tok := z.Token(); tok.Type {
		case html.StartTagToken:
			tags, raw = append(tags, tok), tok.Data == "style" || tok.Data == "script"
		case html.TextToken:
			if !raw {
				text += tok.Data
			}
		}
	}
	return tags, text
}

// Chromium returns a context of a headless Chromium with a profile of its own and further options. It ends after the timeout, which is
// also how long Chromium may take to start.
func Chromium(t *testing.T, timeout time.Duration, options ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	all := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(testneeds.Program(t, "chromium", "chromium")), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WSURLReadTimeout(timeout))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), append(all, options...)...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	t.Cleanup(cancel)
	return ctx
}
