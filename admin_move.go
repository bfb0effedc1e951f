package caddyoauth

import "io"

// exportRecords writes a dump of all records. That of a read-only issuer is final, so no older configuration may be
// writing any more.
func exportRecords(r *adminRequest) (any, error) {
	if err := r.body(new(struct{})); err != nil {
		return nil, err
	}
	if r.issuer.ReadOnly {
		if err := r.server.EndOlderWrites(r.Context()); err != nil {
			return nil, err
		}
	}
	return streamed{"application/jsonl", func(w io.Writer) {
		_ = r.server.Export(r.Context(), w) // The log and the dump say what went wrong.
	}}, nil
}

func encryptRecords(r *adminRequest) (any, error) { return r.server.Reseal(r.Context()) }
