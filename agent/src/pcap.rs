//! pcap and pcapng files as a source of frames.
