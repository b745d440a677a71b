//! Somebody else's XDP program.

use aya::Ebpf;
use aya::programs::{ProgramError, Xdp, XdpMode};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use crate::namespace::Namespace;

/// A program named [`NAME`] on an interface until it is dropped. It passes every frame.
pub(crate) struct Foreign {
    _ebpf: Ebpf,
}

pub(crate) const NAME: &str = "firewall";

impl Foreign {
    pub(crate) fn attach(namespace: &Namespace, interface: &str) -> Self {
        let mut ebpf = Ebpf::load(&object_file()).unwrap();
        let program: &mut Xdp = ebpf.program_mut(NAME).unwrap().try_into().unwrap();
        program.load().unwrap();
        let attached: Result<_, ProgramError> = namespace.run(|| program.attach(interface, XdpMode::Driver));
        attached.unwrap();
        Self { _ebpf: ebpf }
    }
}

/// What clang makes of `int firewall(struct xdp_md *ctx) { return XDP_PASS; }`.
fn object_file() -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let section = object.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    // r0 = XDP_PASS; exit
    let code = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    object.append_section_data(section, &code, 8);
    object.add_symbol(Symbol {
        name: NAME.into(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    object.write().unwrap()
}
