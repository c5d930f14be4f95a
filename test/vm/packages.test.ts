import { describe, expect, it } from 'vitest';
import { mirrorIn, transportSettings } from '../../src/vm/apt.js';
import { linkedPackages, parseRecords } from '../../src/vm/dependencies.js';
import { isElf, payloadOf } from '../../src/vm/kernel.js';
import { newestKernel } from '../../src/vm/packages.js';
import { cureFor } from '../../src/vm/run.js';

const RECORDS = `Package: qemu-system-x86
Section: otherosfs
Pre-Depends: libc6 (>= 2.38)
Depends: libaio1t64 (>= 0.3.93) | libaio1, qemu-system-common (= 1), seabios

Package: libaio1t64
Section: libs
Depends: libc6:any, debconf | debconf-2.0

Package: libc6
Section: libs

Package: qemu-system-common
Section: otherosfs
Depends: adduser

Package: debconf
Section: admin
`;

describe('packages', () => {
  it('takes the roots and the libraries below them, nothing that only serves installing', () => {
    expect(linkedPackages(parseRecords(RECORDS), ['qemu-system-x86', 'zstd'])).toEqual(['libaio1t64', 'libc6', 'qemu-system-x86', 'zstd']);
  });

  it('the newest kernel is that of the highest version, signed and without a flavour', () => {
    const names = ['7.2.12', '7.10.1', '7.9.3'].map((version) => `linux-binary-${version}+deb13-amd64`);
    expect(newestKernel([...names, 'linux-binary-8.0+deb13-cloud-amd64', 'linux-binary-unsigned-9.0+deb13-amd64'])).toBe(
      '7.10.1+deb13-amd64',
    );
    expect(newestKernel([])).toBeUndefined();
  });

  it('the mirror is Debian\u2019s, not that of its security updates or of others', () => {
    expect(mirrorIn('m:/sec|Debian|Debian-Security\nm:/node|Node|Node\nm:/debian|Debian|Debian\n')).toBe('m:/debian');
    expect(mirrorIn('m:/u|Ubuntu|Ubuntu\n')).toBeUndefined();
  });

  it('of the machine\u2019s settings only those that say how to reach a mirror are taken', () => {
    const dump = 'Acquire::http::Proxy "p:1";\nAcquire::Languages "de";\nAPT::Update::Post-Invoke:: "rm -f x";\nDir "/";\nAcquire "";\n';
    expect(transportSettings(dump)).toBe('Acquire::http::Proxy "p:1";\n');
  });

  it.each([
    ['E: You don\u2019t have enough free space: No space left on device', 'disk is full'],
    ['Temporary failure resolving mirror', 'network'],
    ['NO_PUBKEY 0123', 'debian-archive-keyring'],
    ['404  Not Found', 'SDXI_MIRROR'],
    ['something else', 'apt-get update'],
  ])('%s: the hint says what helps', (words, cure) => {
    expect(cureFor(words)).toContain(cure);
  });
});

describe('kernel images', () => {
  /** A bzImage of one setup sector with this payload, and four bytes of length behind it. */
  function image(payload: Buffer, { version = 0x20f } = {}): Buffer {
    const bytes = Buffer.alloc(2048 + payload.length + 4);
    bytes[0x1f1] = 1;
    bytes.write('HdrS', 0x202, 'latin1');
    bytes.writeUInt16LE(version, 0x206);
    bytes.writeUInt32LE(1024, 0x248);
    bytes.writeUInt32LE(payload.length + 4, 0x24c);
    payload.copy(bytes, 2048);
    return bytes;
  }

  it.each([
    ['zstd', '28b52ffd0102030405'],
    ['xz', 'fd377a585a00010203'],
    ['gzip', '1f8b080000000000ff'],
  ])('%s is recognized, and comes without the length behind it', (format, hex) => {
    expect(payloadOf(image(Buffer.from(hex, 'hex')))).toEqual({ format, bytes: Buffer.from(hex, 'hex') });
  });

  it('a format that nothing here unpacks is left as it is', () => {
    expect(payloadOf(image(Buffer.from('02214c1801020304', 'hex')))).toBeUndefined();
  });

  it.each([
    ['an old boot protocol', image(Buffer.alloc(8), { version: 0x207 })],
    ['a payload beyond the end', image(Buffer.alloc(8)).subarray(0, 2050)],
    ['something else', Buffer.from('MZ')],
  ])('%s is no kernel', (_what, bytes) => {
    expect(() => payloadOf(bytes)).toThrow('no bzImage');
  });

  it('an ELF image is told by its first bytes', () => {
    expect([isElf(Buffer.from('\x7fELF\x02', 'latin1')), isElf(Buffer.from('MZ'))]).toEqual([true, false]);
  });
});
