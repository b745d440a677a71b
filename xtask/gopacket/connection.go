// What both programs make of a connection: a file for each of its streams.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/reassembly"
)

type context gopacket.CaptureInfo

func (c context) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo(c) }

type connections struct {
	// Where the files go; none are written where this is empty.
	folder string
	// A stream without a SYN starts with the first segment seen, and not with what a flush brings to light.
	midstream bool
	count     int
}

func (c *connections) New(
	network, transport gopacket.Flow, _ *layers.TCP, _ reassembly.AssemblerContext,
) reassembly.Stream {
	c.count++
	return &connection{connections: c, number: c.count, network: network, transport: transport}
}

type connection struct {
	*connections
	number             int
	network, transport gopacket.Flow
	files              [2]*os.File
}

func (c *connection) Accept(
	_ *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection, _ reassembly.Sequence, start *bool,
	_ reassembly.AssemblerContext,
) bool {
	*start = *start || c.midstream
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
