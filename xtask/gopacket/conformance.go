// Writes every stream of capture files to a file of its own, with what gopacket offers for that: its decoders, its
// defragmentation and its reassembly, used as their documentation describes. A stream starts with its SYN or, when there
// is none, with what a flush brings to light; what is missing is left out.
package main

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/ip4defrag"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/reassembly"
)

var (
	output   = flag.String("o", ".", "folder for the streams")
	checksum = flag.Bool("checksum", false, "leave out segments with a wrong checksum")
)

// The two of gopacket's own example: how long a hole is waited for, and how long a connection may be silent.
const (
	holeTimeout = 5 * time.Minute
	idleTimeout = 24 * time.Hour
)

func main() {
	flag.Parse()
	assembler := reassembly.NewAssembler(reassembly.NewStreamPool(&connections{folder: *output}))
	defragmenter := ip4defrag.NewIPv4Defragmenter()
	var flushed time.Time
	for _, name := range flag.Args() {
		packets, err := open(name)
		if err != nil {
			log.Fatal(err)
		}
		for {
			data, info, err := packets.ReadPacketData()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					log.Print(name, ": ", err)
				}
				break
			}
			link := packets.LinkType()
			if ng, ok := packets.(*pcapgo.NgReader); ok {
				// Interfaces of one file may have different link types.
				if iface, err := ng.Interface(info.InterfaceIndex); err == nil {
					link = iface.LinkType
				}
			}
			packet := gopacket.NewPacket(data, link, gopacket.DecodeOptions{NoCopy: true})
			handle(packet, info, defragmenter, assembler)
			if info.Timestamp.Sub(flushed) > time.Minute {
				flushed = info.Timestamp
				assembler.FlushWithOptions(reassembly.FlushOptions{
					T:  flushed.Add(-holeTimeout),
					TC: flushed.Add(-idleTimeout),
				})
			}
		}
	}
	assembler.FlushAll()
}

// What both of gopacket's readers have.
type reader interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

func open(name string) (reader, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(file)
	if magic, _ := buffered.Peek(4); string(magic) == "\x0a\x0d\x0d\x0a" {
		return pcapgo.NewNgReader(buffered, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	}
	return pcapgo.NewReader(buffered)
}

// Hands on the innermost segment of a packet.
func handle(
	packet gopacket.Packet,
	info gopacket.CaptureInfo,
	defragmenter *ip4defrag.IPv4Defragmenter,
	assembler *reassembly.Assembler,
) {
	network, tcp := innermost(packet, nil, info, defragmenter)
	if tcp == nil || network == nil {
		return
	}
	if *checksum {
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			return
		}
		if sum, err := tcp.ComputeChecksum(); err != nil || sum != 0 {
			return
		}
	}
	assembler.AssembleWithContext(network.NetworkFlow(), tcp, context(info))
}

func innermost(
	packet gopacket.Packet,
	network gopacket.NetworkLayer,
	info gopacket.CaptureInfo,
	defragmenter *ip4defrag.IPv4Defragmenter,
) (gopacket.NetworkLayer, *layers.TCP) {
	var inside gopacket.NetworkLayer
	var tcp *layers.TCP
	for _, layer := range packet.Layers() {
		switch layer := layer.(type) {
		case *layers.IPv4:
			whole, err := defragmenter.DefragIPv4WithTimestamp(layer, info.Timestamp)
			if err != nil || whole == nil {
				return nil, nil
			}
			if whole != layer {
				rest := gopacket.NewPacket(whole.Payload, whole.NextLayerType(), gopacket.NoCopy)
				return innermost(rest, whole, info, defragmenter)
			}
			network = layer
		case *layers.IPv6:
			network = layer
		case *layers.TCP:
			inside, tcp = network, layer
		}
	}
	return inside, tcp
}
