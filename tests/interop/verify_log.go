// Verifies a log in the C2SP tlog-tiles layout with Go's own libraries, knowing nothing of the program that wrote it:
//
//	verify_log VKEY FOLDER-OR-URL [FIRST END]
//
// The checkpoint's signature, its root from the tiles, every entry FIRST..END-1 (all of them where not given) under it,
// inclusion proofs and consistency proofs. Exit 0 and one line if all of it holds; 1 and the reason if not.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height  = 8
	width   = 1 << height
	fileMax = 32 << 20
	samples = 40 // proofs of each kind, spread over the range
)

// log is where files are read from; it is the tlog.TileReader of its tree.
type log struct{ place string }

func (l log) read(path string) ([]byte, error) {
	if !strings.HasPrefix(l.place, "http://") && !strings.HasPrefix(l.place, "https://") {
		return os.ReadFile(filepath.Join(l.place, filepath.FromSlash(path)))
	}
	reply, err := http.Get(strings.TrimSuffix(l.place, "/") + "/" + path)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, reply.Status)
	}
	return io.ReadAll(io.LimitReader(reply.Body, fileMax))
}

// tile reads a partial tile, or the full one where the partial one is gone; and says how wide a tile it was.
func (l log) tile(level string, tile tlog.Tile) ([]byte, int, error) {
	full := tile
	full.W = width
	name := func(t tlog.Tile) string {
		// Go's own layout names the height, and calls the entries' level "data".
		_, rest, _ := strings.Cut(strings.TrimPrefix(t.Path(), "tile/"+strconv.Itoa(height)+"/"), "/")
		return "tile/" + level + "/" + rest
	}
	data, err := l.read(name(tile))
	if err != nil && tile.W < width {
		data, err = l.read(name(full))
		return data, width, err
	}
	return data, tile.W, err
}

func (l log) Height() int { return height }

func (l log) SaveTiles([]tlog.Tile, [][]byte) {}

func (l log) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, held, err := l.tile(strconv.Itoa(tile.L), tile)
		if err != nil {
			return nil, err
		}
		if len(data) != held*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", tile.Path(), len(data))
		}
		all = append(all, data[:tile.W*tlog.HashSize])
	}
	return all, nil
}

// checkpoint opens the note and reads its three lines; tlog.ParseTree would insist on the origin of go.sum.
func (l log) checkpoint(vkey string) (tree tlog.Tree, err error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	signed, err := l.read("checkpoint")
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("the checkpoint is not origin, size and root")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || copy(tree.Hash[:], root) != tlog.HashSize {
		return tree, fmt.Errorf("the checkpoint's root is malformed")
	}
	return tree, nil
}

// entries reads the bundle with a number as a tree of this size has it.
func (l log) entries(bundle, size int64) (found [][]byte, err error) {
	tile := tlog.Tile{H: height, L: 0, N: bundle, W: width}
	if rest := size - bundle*width; rest < width {
		tile.W = int(rest)
	}
	data, held, err := l.tile("entries", tile)
	if err != nil {
		return nil, err
	}
	for len(data) > 0 {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("bundle %d is cut", bundle)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		found, data = append(found, data[2:end]), data[end:]
	}
	if len(found) != held {
		return nil, fmt.Errorf("bundle %d has %d entries, wanted %d", bundle, len(found), held)
	}
	return found[:tile.W], nil
}

func verify(vkey, place string, bounds []string) error {
	l := log{place}
	// (1) The signature.
	tree, err := l.checkpoint(vkey)
	if err != nil {
		return err
	}
	first, end := int64(0), tree.N
	if len(bounds) == 2 {
		if first, err = strconv.ParseInt(bounds[0], 10, 64); err == nil {
			end, err = strconv.ParseInt(bounds[1], 10, 64)
		}
		if err != nil || first < 0 || end > tree.N {
			return fmt.Errorf("no such range")
		}
	}
	// (2) The root, from the tiles.
	if tree.N == 0 {
		if tree.Hash != sha256.Sum256(nil) { // tlog.TreeHash says all zeros in some versions
			return fmt.Errorf("an empty log has another root")
		}
		fmt.Println("ok: 0 entries")
		return nil
	}
	hashes := tlog.TileHashReader(tree, l)
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil || root != tree.Hash {
		return fmt.Errorf("the tiles do not lead to the root (%v)", err)
	}
	// (3) Every entry, against leaf hashes that were led to the root.
	if err := l.verifyEntries(tree, hashes, first, end); err != nil {
		return err
	}
	// (4) Proofs, made from the tiles and checked without them.
	step := (end-first)/samples + 1
	for at := first; at < end; at += step {
		if err := prove(tree, hashes, at); err != nil {
			return fmt.Errorf("proof at %d: %v", at, err)
		}
	}
	fmt.Printf("ok: entries %d to %d of %d\n", first, end, tree.N)
	return nil
}

func (l log) verifyEntries(tree tlog.Tree, hashes tlog.HashReader, first, end int64) error {
	for bundle := first / width; bundle*width < end; bundle++ {
		entries, err := l.entries(bundle, tree.N)
		if err != nil {
			return err
		}
		var indexes []int64
		for at := range entries {
			indexes = append(indexes, tlog.StoredHashIndex(0, bundle*width+int64(at)))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for at, entry := range entries {
			if leaf := tlog.RecordHash(entry); !bytes.Equal(leaf[:], leaves[at][:]) {
				return fmt.Errorf("entry %d is not what was hashed", bundle*width+int64(at))
			}
		}
	}
	return nil
}

func prove(tree tlog.Tree, hashes tlog.HashReader, at int64) error {
	record, err := tlog.ProveRecord(tree.N, at, hashes)
	if err != nil {
		return err
	}
	leaves, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, at)})
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(record, tree.N, tree.Hash, at, leaves[0]); err != nil {
		return err
	}
	old, err := tlog.TreeHash(at+1, hashes)
	if err != nil {
		return err
	}
	growth, err := tlog.ProveTree(tree.N, at+1, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(growth, tree.N, tree.Hash, at+1, old)
}

func main() {
	if len(os.Args) != 3 && len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: verify_log VKEY FOLDER-OR-URL [FIRST END]")
		os.Exit(2)
	}
	if err := verify(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}
