import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { installedQemu, type MachineOptions, machineArguments, namedQemu } from '../../src/vm/qemu.js';

const plain: MachineOptions = {
  sockets: [],
  memoryMiB: 512,
  iommu: 'none',
  rootPort: false,
  kvm: false,
  reboot: false,
  console: { file: '/run/console' },
  kernelArgs: [],
  qemuArgs: [],
};
const args = (options: Partial<MachineOptions>) => machineArguments('/k', '/i', { ...plain, ...options });
/** Values of all options of one name. */
const valuesOf = (list: string[], name: string) => list.filter((_, i) => list[i - 1] === name);

describe('the machine\u2019s arguments', () => {
  it('memory is a memfd that is shared: in private memory copies would silently go nowhere', () => {
    const list = args({ memoryMiB: 384 });
    expect(valuesOf(list, '-object')).toEqual(['memory-backend-memfd,id=mem0,size=384M,share=on']);
    expect(valuesOf(list, '-m')).toEqual(['384M']);
    expect(valuesOf(list, '-machine')[0]).toContain('memory-backend=mem0');
  });

  it('one device for each socket, paths with any characters', () => {
    const devices = valuesOf(args({ sockets: ['/a.sock', '/b,"c.sock'] }), '-device').map((text) => JSON.parse(text));
    expect(devices).toEqual([
      { driver: 'vfio-user-pci', socket: { type: 'unix', path: '/a.sock' } },
      { driver: 'vfio-user-pci', socket: { type: 'unix', path: '/b,"c.sock' } },
    ]);
  });

  it('a comma in the path of the socket for QEMU\u2019s own commands is part of it', () => {
    expect(valuesOf(args({ qmp: '/a, b/qmp' }), '-qmp')).toEqual(['unix:/a,, b/qmp,server=on,wait=off']);
  });

  it('the IOMMU comes before the devices, with caching mode, and the kernel uses it', () => {
    const list = args({ sockets: ['/a.sock'], iommu: 'intel' });
    expect(valuesOf(list, '-device')[0]).toBe('intel-iommu,caching-mode=on,intremap=on');
    expect(valuesOf(list, '-append')[0]).toContain(' intel_iommu=on');
    expect(args({}).join(' ')).not.toContain('iommu');
  });

  it('each function has a root port of its own', () => {
    const devices = valuesOf(args({ sockets: ['/a', '/b'], rootPort: true }), '-device');
    expect(devices[0]).toContain('pcie-root-port,id=port0,chassis=1,slot=1');
    expect(JSON.parse(devices[1]).bus).toBe('port0');
    expect(JSON.parse(devices[3]).bus).toBe('port1');
  });

  it('emulates unless told otherwise; restarts only when told so; further arguments come last', () => {
    expect(valuesOf(args({}), '-accel')).toEqual(['tcg']);
    expect(valuesOf(args({ kvm: true }), '-accel')).toEqual(['kvm']);
    expect(args({})).toContain('-no-reboot');
    expect(args({ reboot: true })).not.toContain('-no-reboot');
    const list = args({ qemuArgs: ['-S'], kernelArgs: ['debug'] });
    expect(list.at(-1)).toBe('-S');
    expect(valuesOf(list, '-append')[0]).toMatch(/ debug$/);
  });

  it('for people Ctrl-C goes to the guest, for commands the kernel has a port of its own', () => {
    const console = args({ console: 'stdio' });
    expect(valuesOf(console, '-chardev')).toEqual(['stdio,id=console,mux=on,signal=off']);
    expect(valuesOf(console, '-append')[0]).toContain('sdxi.console');
    expect(valuesOf(args({}), '-serial')).toEqual(['file:/run/console', 'stdio']);
  });
});

describe('a QEMU of this machine', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sdxi-test-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function fakeQemu(says: string): string {
    const path = join(folder, 'qemu-system-x86_64');
    writeFileSync(path, `#!/bin/sh\necho '${says}'\n`);
    chmodSync(path, 0o755);
    return path;
  }

  it('is taken from the path if it knows vfio-user', () => {
    const path = fakeQemu('name "vfio-user-pci", bus PCI');
    expect(installedQemu(`/nonexistent:${folder}`)).toEqual({ command: path, args: [] });
    expect(namedQemu(path).command).toBe(path);
  });

  it('is passed over, and refused when named, if it does not', () => {
    const path = fakeQemu('name "vfio-pci", bus PCI');
    expect(installedQemu(folder)).toBeUndefined();
    expect(() => namedQemu(path)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_UNSUPPORTED' }));
  });
});
