// Command evidence checks evidence files of policyd's ledger (C2SP tlog-proof) offline, with the vkey of
// the log that they must be of. docs/ledger.md has the formats; the standard library is all it needs.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const header, maxFile = "c2sp.org/tlog-proof@v1", 262144
const maxLeaf, maxProof, maxNote, maxSignatures = 65534, 63, 65536, 64

// proved is what a file proves: the log named origin, at this size and root, has leaf at index.
type proved struct {
	origin      string
	index, size uint64
	root, leaf  []byte
	record      map[string]json.RawMessage
}

// verify checks one evidence file against a vkey, whose name is the log's origin.
func verify(data []byte, vkey string) (*proved, error) {
	head, signed, found := strings.Cut(string(data), "\n\n")
	lines := strings.Split(head, "\n")
	if len(data) > maxFile || !utf8.Valid(data) || !found || len(lines) < 3 || lines[0] != header {
		return nil, fmt.Errorf("no evidence file")
	}
	p := &proved{}
	var err error
	if encoded, ok := strings.CutPrefix(lines[1], "extra "); ok {
		p.leaf, err = unbase64(encoded)
	}
	if err != nil || len(p.leaf) == 0 || len(p.leaf) > maxLeaf {
		return nil, fmt.Errorf("line 2 holds no record")
	}
	digits, ok := strings.CutPrefix(lines[2], "index ")
	if p.index, err = decimal(digits); !ok || err != nil {
		return nil, fmt.Errorf("line 3 is not `index` and a number")
	}
	proof := make([][]byte, len(lines)-3)
	for i, line := range lines[3:] {
		if proof[i], err = unbase64(line); err != nil || len(proof[i]) != sha256.Size || i == maxProof {
			return nil, fmt.Errorf("a line of the proof is not the base64 of 32 bytes")
		}
	}
	text, err := open(signed, vkey)
	if err != nil {
		return nil, err
	}
	if p.origin, p.size, p.root, err = checkpoint(text); err != nil {
		return nil, err
	}
	if name, _, _ := strings.Cut(vkey, "+"); p.origin != name {
		return nil, fmt.Errorf("the checkpoint is of another log")
	}
	if !included(p.leaf, p.index, p.size, proof, p.root) {
		return nil, fmt.Errorf("the proof does not lead to the root")
	}
	if json.Unmarshal(p.leaf, &p.record) != nil || string(p.record["v"]) != "1" {
		return nil, fmt.Errorf("the record has no version that is known here")
	}
	return p, nil
}

// included follows an inclusion proof, RFC 9162 section 2.1.3.2.
func included(leaf []byte, index, size uint64, proof [][]byte, root []byte) bool {
	if index >= size {
		return false
	}
	running := sha256.Sum256(append([]byte{0}, leaf...))
	last := size - 1
	for _, sibling := range proof {
		if last == 0 {
			return false
		}
		if index&1 == 1 || index == last {
			running = sha256.Sum256(bytes.Join([][]byte{{1}, sibling, running[:]}, nil))
			for index != 0 && index&1 == 0 {
				index, last = index>>1, last>>1
			}
		} else {
			running = sha256.Sum256(bytes.Join([][]byte{{1}, running[:], sibling}, nil))
		}
		index, last = index>>1, last>>1
	}
	return last == 0 && bytes.Equal(running[:], root)
}

// open returns the text of a signed note (C2SP signed-note) that carries the key's signature. Unknown
// keys are ignored; one bad signature of the known key refuses the note, whatever else is on it.
func open(note, vkey string) (string, error) {
	parts := strings.SplitN(vkey, "+", 3)
	typed, err := unbase64(parts[len(parts)-1])
	id := sha256.Sum256(append([]byte(parts[0]+"\n"), typed...))
	if len(parts) != 3 || !isName(parts[0]) || err != nil || len(typed) != 1+ed25519.PublicKeySize ||
		typed[0] != 1 || fmt.Sprintf("%x", id[:4]) != parts[1] {
		return "", fmt.Errorf("the key is no vkey of an Ed25519 key, or its id is another's")
	}
	end := strings.LastIndex(note, "\n\n")
	control := strings.ContainsFunc(note, func(r rune) bool { return r < ' ' && r != '\n' })
	if len(note) > maxNote || control || end < 0 || !strings.HasSuffix(note[end+2:], "\n") {
		return "", fmt.Errorf("the checkpoint is no signed note")
	}
	text, known := note[:end+1], false
	lines := strings.Split(strings.TrimSuffix(note[end+2:], "\n"), "\n")
	for _, line := range lines {
		rest, ok := strings.CutPrefix(line, "— ")
		name, encoded, _ := strings.Cut(rest, " ")
		blob, err := unbase64(encoded)
		if !ok || !isName(name) || err != nil || len(blob) < 5 || len(lines) > maxSignatures {
			return "", fmt.Errorf("a signature line is malformed")
		}
		if name != parts[0] || !bytes.Equal(blob[:4], id[:4]) {
			continue
		}
		if !ed25519.Verify(typed[1:], []byte(text), blob[4:]) {
			return "", fmt.Errorf("the signature of the log does not fit")
		}
		known = true
	}
	if !known {
		return "", fmt.Errorf("the log's key has not signed the checkpoint")
	}
	return text, nil
}

// checkpoint reads origin, size and root (C2SP tlog-checkpoint); extension lines are ignored.
func checkpoint(text string) (origin string, size uint64, root []byte, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 || lines[0] == "" || strings.Contains(text, "\n\n") {
		return "", 0, nil, fmt.Errorf("the checkpoint is malformed")
	}
	size, bad := decimal(lines[1])
	root, err = unbase64(lines[2])
	if bad != nil || err != nil || len(root) != sha256.Size {
		return "", 0, nil, fmt.Errorf("the size or root of the checkpoint is malformed")
	}
	return lines[0], size, root, nil
}

// isName says whether a text may name a key.
func isName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == '+' || unicode.IsSpace(r) })
}

// decimal reads a number that has one spelling: no sign, no leading zero.
func decimal(digits string) (uint64, error) {
	number, err := strconv.ParseUint(digits, 10, 64)
	if err == nil && strconv.FormatUint(number, 10) != digits {
		err = fmt.Errorf("not canonical")
	}
	return number, err
}

// unbase64 reads standard, padded base64 that has one spelling; Go's decoder alone would skip newlines.
func unbase64(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err == nil && base64.StdEncoding.EncodeToString(raw) != text {
		err = fmt.Errorf("not canonical")
	}
	return raw, err
}

func main() {
	key := flag.String("key", "", "vkey of the log, kept elsewhere")
	flag.Parse()
	if *key == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: evidence -key VKEY FILE...")
		os.Exit(2)
	}
	status := 0
	for _, name := range flag.Args() {
		p := &proved{}
		data, err := os.ReadFile(name)
		if err == nil {
			p, err = verify(data, *key)
		}
		if err != nil {
			fmt.Printf("%s: REFUSED: %v\n", name, err)
			status = 1
			continue
		}
		fmt.Printf("%s: proved: record %d of %d in %s, %s %s\n", name, p.index, p.size, p.origin,
			p.record["kind"], p.record["decision_id"])
	}
	os.Exit(status)
}
