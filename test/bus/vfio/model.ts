import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { InlineBus } from '../../../src/bus/index.js';
import type { Host } from '../../../src/bus/vfio/host.js';
import { Sysfs } from '../../../src/bus/vfio/sysfs.js';
import type { Access } from '../../../src/memory/address-space.js';
import type { Region } from '../../../src/memory/region.js';
import { signalEventfd } from '../../../src/native/eventfd.js';
import { BAR0_BYTES } from '../../../src/spec/index.js';

const { EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOTTY } = constants.errno;

/** A PCI function in the model's /sys. */
export interface ModelFunction {
  address: string;
  classCode?: number;
  driver?: string;
  group?: number;
}

const CONTAINER = 1000;
const GROUP = 1001;
const DEVICE = 1002;
const SPACE = 2 ** 40;
/** The function works so long at a time. */
const STEP_MS = 5;

/** Numbers of <linux/vfio.h>, written out once more so that those of the source are checked against them. */
const Request = {
  VERSION: 100,
  EXTENSION: 101,
  SET_IOMMU: 102,
  STATUS: 103,
  SET_CONTAINER: 104,
  DEVICE_FD: 106,
  DEVICE_INFO: 107,
} as const;
const DeviceRequest = { REGION: 108, IRQ: 109, SET_IRQS: 110, RESET: 111, INFO: 112, MAP: 113, UNMAP: 114 } as const;

/**
 * A machine with VFIO whose kernel is this class: one IOMMU group with one function in it, a software one, reached by system calls and
 * never by mappings. Everything that a test wants to go wrong is a field.
 */
export class ModelHost implements Host {
  readonly root = mkdtempSync(join(tmpdir(), 'sdxi-vfio-'));
  readonly sysfs = new Sysfs(join(this.root, 'sys'));
  readonly dev = join(this.root, 'dev');
  readonly files: Record<string, string> = { 'self/limits': 'Max locked memory         unlimited            unlimited            bytes\n' };
  /** Results in place of the model's, by the number of the request (100 …) or by path. */
  readonly results = new Map<number | string, number>();
  /** Requests so far, by number. */
  readonly requests: number[] = [];
  readonly open_ = new Set<number>();
  readonly eventfds = new Map<number, number[]>();
  readonly mapped = new Map<bigint, { size: bigint; vaddr: bigint; flags: number }>();
  readonly fn: InlineBus;
  viable = true;
  canReset = true;
  mappingsLeft = 65535;
  /** Vectors that the device claims to have; default those of the function. */
  vectorsThere?: number;
  vectorsAvailable = Number.POSITIVE_INFINITY;
  ranges: [bigint, bigint][] = [
    [0n, 0xfedf_ffffn],
    [0xfef0_0000n, 0x7f_ffff_ffffn],
  ];
  command = 0;
  gone = false;
  private raised: number[] = [];
  private readonly timer: NodeJS.Timeout;

  constructor(options = '', functions: ModelFunction[] = [{ address: '0000:c4:00.1', driver: 'vfio-pci', group: 7 }]) {
    this.fn = new InlineBus(`embedded:?inline=1&${options}`);
    mkdirSync(join(this.root, 'sys/bus/pci/devices'), { recursive: true });
    mkdirSync(join(this.dev, 'vfio'), { recursive: true });
    for (const one of functions) this.addFunction(one);
    this.timer = setInterval(() => this.run(), 1);
    this.timer.unref();
  }

  addFunction({ address, classCode = 0x120100, driver, group }: ModelFunction): void {
    const folder = join(this.root, 'sys/devices/pci', address);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'class'), `0x${classCode.toString(16).padStart(6, '0')}\n`);
    writeFileSync(join(folder, 'vendor'), '0x1e5d\n');
    writeFileSync(join(folder, 'device'), '0x5d01\n');
    if (driver) symlinkSync(`../../../bus/pci/drivers/${driver}`, join(folder, 'driver'));
    if (group !== undefined) {
      symlinkSync(`../../../kernel/iommu_groups/${group}`, join(folder, 'iommu_group'));
      const members = join(this.root, `sys/kernel/iommu_groups/${group}/devices`);
      mkdirSync(members, { recursive: true });
      symlinkSync(folder, join(members, address));
    }
    symlinkSync(`../../../devices/pci/${address}`, join(this.root, 'sys/bus/pci/devices', address));
  }

  proc(name: string): string {
    return this.files[name] ?? '';
  }

  open(path: string): number {
    const result = this.results.get(path.slice(this.dev.length + 1));
    if (result !== undefined) return result;
    const fd = path.endsWith('/vfio/vfio') ? CONTAINER : path.endsWith('/vfio/7') ? GROUP : -ENOENT;
    if (fd < 0) return fd;
    if (this.open_.has(fd)) return -EBUSY;
    this.open_.add(fd);
    return fd;
  }

  close(fd: number): void {
    if (!this.open_.delete(fd)) throw new Error(`descriptor ${fd} was closed twice`);
  }

  ioctl(fd: number, request: number, argument: number | Uint8Array): number {
    const number = request - 0x3b00;
    this.requests.push(number);
    if (!this.open_.has(fd)) throw new Error(`descriptor ${fd} is closed`);
    const result = this.results.get(number);
    if (result !== undefined) return result;
    if (typeof argument === 'number') return this.simple(number, argument);
    return this.structured(number, new DataView(argument.buffer, argument.byteOffset, argument.byteLength));
  }

  private simple(number: number, argument: number): number {
    if (number === Request.VERSION) return 0;
    if (number === Request.EXTENSION) return argument === 3 ? 1 : 0;
    if (number === Request.SET_IOMMU) return argument === 3 ? 0 : -EINVAL;
    if (number !== DeviceRequest.RESET) return -ENOTTY;
    this.fn.reset();
    return 0;
  }

  private structured(number: number, view: DataView): number {
    switch (number) {
      case Request.STATUS:
        view.setUint32(4, this.viable ? 1 : 0, true);
        return 0;
      case Request.SET_CONTAINER:
        return view.getInt32(0, true) === CONTAINER ? 0 : -EINVAL;
      case Request.DEVICE_FD: {
        const name = Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString();
        if (name !== '0000:c4:00.1\0') return -ENODEV;
        this.open_.add(DEVICE);
        return DEVICE;
      }
      case Request.DEVICE_INFO:
        view.setUint32(4, 2 | (this.canReset ? 1 : 0), true);
        return 0;
      case DeviceRequest.REGION:
        return this.region(view);
      case DeviceRequest.IRQ:
        view.setUint32(12, view.getUint32(8, true) === 2 ? (this.vectorsThere ?? this.fn.vectors) : 1, true);
        return 0;
      case DeviceRequest.SET_IRQS:
        return this.setIrqs(view);
      case DeviceRequest.INFO:
        return this.info(view);
      case DeviceRequest.MAP:
        return this.map_(view);
      case DeviceRequest.UNMAP:
        return this.unmap_(view);
      default:
        return -ENOTTY;
    }
  }

  private region(view: DataView): number {
    const index = view.getUint32(8, true);
    const sizes: Record<number, number> = { 0: BAR0_BYTES, 2: this.fn.doorbellBytes, 7: 4096 };
    view.setUint32(4, 3, true);
    view.setBigUint64(16, BigInt(sizes[index] ?? 0), true);
    view.setBigUint64(24, BigInt(index * SPACE), true);
    return 0;
  }

  private setIrqs(view: DataView): number {
    const [flags, index, count] = [4, 8, 16].map((at) => view.getUint32(at, true));
    if (flags === 0x21 && count === 0) {
      this.eventfds.delete(index);
      return 0;
    }
    if (flags !== 0x24 || view.byteLength !== 20 + count * 4) return -EINVAL;
    if (index === 2 && count > this.vectorsAvailable) return this.vectorsAvailable;
    this.eventfds.set(
      index,
      Array.from({ length: count }, (_, i) => view.getInt32(20 + i * 4, true)),
    );
    return 0;
  }

  /** The capabilities of the IOMMU: ranges of addresses, and how many mappings are left. */
  private info(view: DataView): number {
    const size = 24 + 16 + this.ranges.length * 16 + 12;
    view.setUint32(4, 3, true);
    view.setBigUint64(8, 0x4020_1000n, true);
    if (view.getUint32(0, true) < size) {
      view.setUint32(0, size, true);
      view.setUint32(16, 0, true);
      return 0;
    }
    view.setUint32(16, 24, true);
    const next = size - 12;
    view.setUint16(24, 1, true);
    view.setUint16(26, 1, true);
    view.setUint32(28, next, true);
    view.setUint32(32, this.ranges.length, true);
    for (const [i, [first, last]] of this.ranges.entries()) {
      view.setBigUint64(40 + i * 16, first, true);
      view.setBigUint64(48 + i * 16, last, true);
    }
    view.setUint16(next, 3, true);
    view.setUint16(next + 2, 1, true);
    view.setUint32(next + 8, this.mappingsLeft - this.mapped.size, true);
    return 0;
  }

  private map_(view: DataView): number {
    const flags = view.getUint32(4, true);
    const [vaddr, iova, size] = [8, 16, 24].map((at) => view.getBigUint64(at, true));
    if ((vaddr | iova | size) & 0xfffn || flags === 0 || flags > 3) return -EINVAL;
    for (const [start, one] of this.mapped) if (iova < start + one.size && start < iova + size) return -EEXIST;
    const region = { address: Number(vaddr), byteLength: Number(size), attached: true } as Region;
    this.fn.map({ iova: Number(iova), region, access: flags as Access });
    this.mapped.set(iova, { size, vaddr, flags });
    return 0;
  }

  /** As type1v2: what lies inside goes, a mapping that would be cut is an error. */
  private unmap_(view: DataView): number {
    const [iova, size] = [8, 16].map((at) => view.getBigUint64(at, true));
    let gone = 0n;
    for (const [start, one] of this.mapped) {
      if (start >= iova + size || start + one.size <= iova) continue;
      if (start < iova || start + one.size > iova + size) return -EINVAL;
      this.fn.unmap(Number(start), Number(one.size));
      this.mapped.delete(start);
      gone += one.size;
    }
    view.setBigUint64(16, gone, true);
    return 0;
  }

  read(_fd: number, bytes: Uint8Array, position: number): number {
    const [index, offset] = [Math.floor(position / SPACE), position % SPACE];
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.gone) bytes.fill(0xff);
    else if (index === 7) view.setUint16(0, offset === 4 ? this.command : 0x1e5d, true);
    else {
      this.run();
      view.setBigUint64(0, this.fn.fn.readRegister(offset, 8), true);
    }
    return bytes.byteLength;
  }

  write(_fd: number, bytes: Uint8Array, position: number): number {
    const [index, offset] = [Math.floor(position / SPACE), position % SPACE];
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.gone) return bytes.byteLength;
    if (index === 7) this.command = view.getUint16(0, true);
    else if (index === 2) this.fn.fn.writeDoorbell(offset, 8, view.getBigUint64(0, true));
    else this.fn.fn.writeRegister(offset, 8, view.getBigUint64(0, true));
    // After a doorbell a little: who watches a long copy has to find it unfinished.
    if (index === 0) this.run();
    else if (index === 2) this.fn.step(4);
    return bytes.byteLength;
  }

  map(): number {
    return -EINVAL;
  }

  unmap(): void {
    throw new Error('nothing was mapped');
  }

  view(): ArrayBuffer {
    throw new Error('nothing was mapped');
  }

  /** Lets the function work, and its interrupts reach the counters that were given for them. */
  run(): void {
    if (this.gone) return;
    const until = performance.now() + STEP_MS;
    while (this.fn.step(64) > 0 && performance.now() < until);
    const eventfds = this.eventfds.get(2) ?? [];
    for (let vector = 0; vector < this.fn.vectors; vector++) {
      const count = this.fn.interruptCount(vector);
      if (count === (this.raised[vector] ?? 0)) continue;
      this.raised[vector] = count;
      if (eventfds[vector] !== undefined) signalEventfd(eventfds[vector]);
    }
  }

  async end(): Promise<void> {
    clearInterval(this.timer);
    await this.fn.close();
    rmSync(this.root, { recursive: true });
  }
}
