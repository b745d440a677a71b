// Writes every stream of a capture file to a file of its own, or nothing where no folder is given, with the least of
// gopacket that does it fast: decoding into layers that are used again, and its reassembly. What conformance compares
// with, in conformance.go, knows more and is slower.
package main

import (
	"io"
	"log"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/reassembly"
)

// How long a hole is waited for, and how long a connection may be silent.
const (
	holeTimeout = 2 * time.Minute
	idleTimeout = 5 * time.Minute
)

// Frames between two looks for what has timed out.
const flushEvery = 100_000

func main() {
	folder := ""
	switch len(os.Args) {
	case 2:
	case 3:
		folder = os.Args[2]
	default:
		log.Fatal("usage: bench CAPTURE [FOLDER]")
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	frames, err := pcapgo.NewReader(file)
	if err != nil {
		log.Fatal(err)
	}
	assembler := reassembly.NewAssembler(reassembly.NewStreamPool(&connections{folder: folder, midstream: true}))

	var ethernet layers.Ethernet
	var v4 layers.IPv4
	var v6 layers.IPv6
	var tcp layers.TCP
	var payload gopacket.Payload
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &ethernet, &v4, &v6, &tcp, &payload)
	var decoded []gopacket.LayerType
	for count := 1; ; count++ {
		data, info, err := frames.ZeroCopyReadPacketData()
		if err == io.EOF {
			break
		} else if err != nil {
			log.Fatal(err)
		}
		// It fails at the first layer that it does not know; what it knew before is in decoded.
		_ = parser.DecodeLayers(data, &decoded)
		var network gopacket.Flow
		for _, layer := range decoded {
			switch layer {
			case layers.LayerTypeIPv4:
				network = v4.NetworkFlow()
			case layers.LayerTypeIPv6:
				network = v6.NetworkFlow()
			case layers.LayerTypeTCP:
				context := context(info)
				assembler.AssembleWithContext(network, &tcp, &context)
			}
		}
		if count%flushEvery == 0 {
			assembler.FlushWithOptions(reassembly.FlushOptions{
				T:  info.Timestamp.Add(-holeTimeout),
				TC: info.Timestamp.Add(-idleTimeout),
			})
		}
	}
	assembler.FlushAll()
}
