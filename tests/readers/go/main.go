// Extracts a tar.gz into the present folder with Go's standard library.
package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
)

func main() {
	file, err := os.Open(os.Args[1])
	check(err)
	unzipped, err := gzip.NewReader(file)
	check(err)
	entries := tar.NewReader(unzipped)
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(err)
		if entry.Typeflag == tar.TypeDir {
			check(os.Mkdir(entry.Name, 0o755))
			continue
		}
		target, err := os.OpenFile(entry.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		check(err)
		_, err = io.Copy(target, entries)
		check(err)
		check(target.Close())
	}
	_, err = io.Copy(io.Discard, unzipped) // to the last gzip member, with its checksum
	check(err)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
