// Writes every stream of a capture file to a file of its own, or nothing where no folder is given, with the least of gopacket that does it fast: decoding into
// layers that are used again, and its reassembly. What conformance compares with, in ../conformance, knows more and is slower.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
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
		log.Fatal("usage: streams CAPTURE [FOLDER]")
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	frames, err := pcapgo.NewReader(file)
	if err != nil {
		log.Fatal(err)
	}
	assembler := reassembly.NewAssembler(reassembly.NewStreamPool(&connections{folder: folder}))

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

type context gopacket.CaptureInfo

func (c *context) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo(*c) }

type connections struct {
	folder string
	count  int
}

func (c *connections) New(
	network, transport gopacket.Flow, _ *layers.TCP, _ reassembly.AssemblerContext,
) reassembly.Stream {
	c.count++
	return &connection{folder: c.folder, number: c.count, network: network, transport: transport}
}

type connection struct {
	folder             string
	number             int
	network, transport gopacket.Flow
	files              [2]*os.File
}

func (c *connection) Accept(
	_ *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection, _ reassembly.Sequence, start *bool,
	_ reassembly.AssemblerContext,
) bool {
	*start = true
	return true
}

func (c *connection) ReassembledSG(octets reassembly.ScatterGather, _ reassembly.AssemblerContext) {
	available, _ := octets.Lengths()
	if available == 0 {
		return
	}
	if c.folder == "" {
		_ = octets.Fetch(available)
		return
	}
	direction, _, _, _ := octets.Info()
	side, network, transport := 0, c.network, c.transport
	if direction == reassembly.TCPDirServerToClient {
		side, network, transport = 1, network.Reverse(), transport.Reverse()
	}
	if c.files[side] == nil {
		name := fmt.Sprintf("%d-%v.%v-%v.%v",
			c.number, network.Src(), transport.Src(), network.Dst(), transport.Dst())
		file, err := os.Create(filepath.Join(c.folder, name))
		if err != nil {
			log.Fatal(err)
		}
		c.files[side] = file
	}
	if _, err := c.files[side].Write(octets.Fetch(available)); err != nil {
		log.Fatal(err)
	}
}

func (c *connection) ReassemblyComplete(reassembly.AssemblerContext) bool {
	for _, file := range c.files {
		if file != nil {
			file.Close()
		}
	}
	return true
}
