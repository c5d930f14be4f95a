import { fstatSync } from 'node:fs';
import { SdxiError, SystemError } from '../../errors.js';
import { closeFd, isSealedAgainstShrinking, isWritable, mapShared, unmap as unmapMemory, viewMemory } from '../../native/libc.js';
import { FDS_MAX } from '../../native/socket.js';
import { BAR0_BYTES } from '../../spec/limits.js';
import type { Connection } from '../../vfio-user/connection.js';
import {
  CAP_SPARSE_MMAP,
  type Capabilities,
  Command,
  commandName,
  DEVICE_INFO_BYTES,
  DeviceFlag,
  decodeVersion,
  encodeVersion,
  field64,
  IRQ_INFO_BYTES,
  Irq,
  IrqInfoFlag,
  IrqSetFlag,
  MAX_DATA_XFER,
  MAX_DMA_MAPS,
  PAGE_SIZES,
  PROTOCOL_MAJOR,
  PROTOCOL_MINOR,
  REGION_ACCESS_BYTES,
  REGION_INFO_BYTES,
  Region,
  RegionFlag,
  SET_IRQS_BYTES,
} from '../../vfio-user/messages.js';
import type { Link } from './link.js';

/** SDXI 1.0 §3.1: base class 12h, sub-class 01h, programming interface 00h. */
const SDXI_CLASS = 0x120100;
const COMMAND_MEMORY_AND_MASTER = 0x6;
/** All but a register access: it may wait for descriptors in flight (S-102), or for a reset. */
const SLOW_MS = 30_000;
const PAGE = 4096;
/** Room for region capabilities: sparse areas of 16 bytes each. */
const CAPS_ROOM = 4096 - REGION_INFO_BYTES;

interface RegionInfo {
  readonly flags: number;
  readonly size: number;
  /** What may be mapped, as offsets in the region, and where the file has offset 0 of the region. */
  readonly areas: readonly { offset: number; size: number }[];
  readonly fileOffset: number;
  readonly fd?: number;
}

/** A part of the doorbells that is written without a message. */
export interface MappedDoorbells {
  readonly offset: number;
  readonly byteLength: number;
  readonly words: BigInt64Array;
  unmap(): void;
}

/** Everything that is asked of a server but memory: who it is, what it has, its regions and interrupts. The socket must be held. */
export class ServedDevice {
  readonly link: Link;
  readonly slowMs: number;
  private readonly uri: string;
  private readonly registerTimeoutMs: number;
  /** What the server can take in one message. */
  maxTransfer = MAX_DATA_XFER;
  private maxFds = 1;
  doorbellBytes = 0;
  vectors = 0;
  canReset = false;

  constructor(link: Link, { uri, registerTimeoutMs }: { uri: string; registerTimeoutMs: number }) {
    this.link = link;
    this.uri = uri;
    this.registerTimeoutMs = registerTimeoutMs;
    this.slowMs = Math.max(SLOW_MS, registerTimeoutMs);
  }

  /** A request that has to succeed. @throws SdxiError ERR_SDXI_SYSTEM with the errno of the reply */
  demand(
    command: number,
    bytes: number,
    fill: (connection: Connection) => void,
    fds: readonly number[] = [],
    timeoutMs = this.slowMs,
  ): void {
    this.succeeded(command, this.link.request(command, bytes, fill, timeoutMs, fds));
  }

  private succeeded(command: number, errno: number): void {
    if (errno === 0) return;
    throw new SdxiError('ERR_SDXI_SYSTEM', `the server of ${this.uri} refused ${commandName(command)} with errno ${errno}`, {
      hint: 'its log says why; is it a server of an SDXI function?',
      fields: { uri: this.uri, command: commandName(command), errno },
    });
  }

  private unsupported(what: string, hint: string, fields: Record<string, unknown> = {}): SdxiError {
    return new SdxiError('ERR_SDXI_UNSUPPORTED', `${this.uri}: ${what}`, { hint, fields: { uri: this.uri, ...fields } });
  }

  private garbage(what: string): Error {
    return this.link.abandon(`its answer makes no sense: ${what}`);
  }

  /** The device, its regions and interrupts. @throws SdxiError ERR_SDXI_UNSUPPORTED for what is no SDXI function; BusLostError */
  discover(mapDoorbells: boolean, vectors: number): MappedDoorbells[] {
    this.info();
    this.checkClass();
    const registers = this.region(Region.BAR0);
    closeAll(registers);
    if (registers.size < BAR0_BYTES) throw this.noRegion('BAR 0', registers.size, BAR0_BYTES);
    const doorbells = this.region(Region.BAR2);
    try {
      if (doorbells.size < 8 || doorbells.size % 8 !== 0) throw this.noRegion('BAR 2', doorbells.size, 8);
      this.doorbellBytes = doorbells.size;
      this.vectors = Math.min(this.interrupts(), vectors);
      return mapDoorbells ? mapAreas(doorbells) : [];
    } finally {
      closeAll(doorbells);
    }
  }

  private noRegion(name: string, size: number, least: number): SdxiError {
    return this.unsupported(
      `${name} has ${size} bytes, and a function of SDXI 1.0 needs ${least}`,
      'is this the socket of an SDXI function?',
      {
        byteLength: size,
      },
    );
  }

  /** VERSION, which comes first. @throws SdxiError ERR_SDXI_UNSUPPORTED for another protocol; BusLostError */
  async version(timeoutMs: number): Promise<void> {
    const proposed: Capabilities = {
      max_msg_fds: FDS_MAX,
      max_data_xfer_size: MAX_DATA_XFER,
      max_dma_maps: MAX_DMA_MAPS,
      pgsizes: PAGE_SIZES,
      write_multiple: true,
    };
    const body = encodeVersion(PROTOCOL_MAJOR, PROTOCOL_MINOR, proposed);
    const errno = await this.link.firstRequest(Command.VERSION, body.length, ({ out }) => out.bytes(0, body), timeoutMs);
    this.succeeded(Command.VERSION, errno);
    const agreed = decodeVersion(this.link.connection.body);
    if (agreed === undefined) throw this.garbage('VERSION cannot be read');
    if (agreed.major !== PROTOCOL_MAJOR || agreed.minor > PROTOCOL_MINOR) {
      throw this.unsupported(
        `the server speaks vfio-user ${agreed.major}.${agreed.minor}, this is ${PROTOCOL_MAJOR}.${PROTOCOL_MINOR}`,
        'use a server of the same version',
      );
    }
    const positive = (name: 'max_msg_fds' | 'max_data_xfer_size', otherwise: number, most: number): number => {
      const value = agreed.capabilities[name] ?? otherwise;
      if (!Number.isSafeInteger(value) || value < 1) throw this.garbage(`${name} is ${String(value)}`);
      return Math.min(value, most);
    };
    this.maxFds = positive('max_msg_fds', 1, FDS_MAX);
    this.maxTransfer = positive('max_data_xfer_size', MAX_DATA_XFER, MAX_DATA_XFER);
  }

  private info(): void {
    this.demand(Command.DEVICE_GET_INFO, DEVICE_INFO_BYTES, ({ out }) => zeros(out, DEVICE_INFO_BYTES));
    const { body, view } = this.link.connection;
    if (body.length < DEVICE_INFO_BYTES) throw this.garbage(`DEVICE_GET_INFO of ${body.length} bytes`);
    const flags = view.getUint32(4, true);
    if ((flags & DeviceFlag.PCI) === 0) throw this.unsupported('the device is no PCI device', 'is this the socket of an SDXI function?');
    this.canReset = (flags & DeviceFlag.RESET) !== 0;
    if (view.getUint32(8, true) <= Region.CONFIG || view.getUint32(12, true) <= Irq.MSIX) {
      throw this.unsupported('the device has no configuration space or no MSI-X', 'is this the socket of an SDXI function?');
    }
  }

  private checkClass(): void {
    const found = this.readNumber(Region.CONFIG, 8, 4) >>> 8;
    if (found === SDXI_CLASS) return;
    const id = this.readNumber(Region.CONFIG, 0, 4);
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
    throw this.unsupported(
      `PCI class ${hex(found, 6)} (device ${hex(id & 0xffff, 4)}:${hex(id >>> 16, 4)}) is no SDXI function, which has ${hex(SDXI_CLASS, 6)}`,
      'give the socket of a server of SDXI functions: sdxi serve',
      { class: found },
    );
  }

  private region(index: number): RegionInfo {
    const { link } = this;
    const argsz = REGION_INFO_BYTES + CAPS_ROOM;
    this.demand(Command.DEVICE_GET_REGION_INFO, REGION_INFO_BYTES, ({ out }) => {
      zeros(out, REGION_INFO_BYTES);
      out.u32(0, argsz);
      out.u32(8, index);
    });
    const { body, view } = link.connection;
    const fds = link.connection.takeFds();
    const info = { fd: fds[0] };
    for (const fd of fds.slice(1)) closeFd(fd);
    try {
      if (body.length < REGION_INFO_BYTES || body.length > argsz || view.getUint32(8, true) !== index)
        throw this.garbage(`DEVICE_GET_REGION_INFO of region ${index}`);
      const flags = view.getUint32(4, true);
      const size = field64(view, 16);
      const fileOffset = field64(view, 24);
      if (size < 0 || fileOffset < 0) throw this.garbage(`region ${index} has no size`);
      const mappable = (flags & RegionFlag.MMAP) !== 0 && info.fd !== undefined;
      const areas = !mappable ? [] : (flags & RegionFlag.CAPS) !== 0 ? this.sparse(size) : [{ offset: 0, size }];
      return { ...info, flags, size, fileOffset, areas };
    } catch (error) {
      closeAll(info);
      throw error;
    }
  }

  /** The areas of the reply at hand. */
  private sparse(size: number): { offset: number; size: number }[] {
    const { body, view } = this.link.connection;
    const areas: { offset: number; size: number }[] = [];
    // Each capability lies behind the one before, so a list cannot go round in circles.
    for (let at = view.getUint32(12, true), after = REGION_INFO_BYTES; at >= after && at + 8 <= body.length; ) {
      after = at + 8;
      if (view.getUint16(at, true) === CAP_SPARSE_MMAP && at + 16 <= body.length) {
        const count = view.getUint32(at + 8, true);
        if (at + 16 + 16 * count > body.length) throw this.garbage(`${count} areas in ${body.length} bytes`);
        for (let i = 0; i < count; i++) {
          const area = { offset: field64(view, at + 16 + 16 * i), size: field64(view, at + 24 + 16 * i) };
          if (area.offset < 0 || area.size <= 0 || area.offset + area.size > size) throw this.garbage('an area outside of its region');
          areas.push(area);
        }
      }
      at = view.getUint32(at + 4, true);
    }
    return areas;
  }

  private interrupts(): number {
    this.demand(Command.DEVICE_GET_IRQ_INFO, IRQ_INFO_BYTES, ({ out }) => {
      zeros(out, IRQ_INFO_BYTES);
      out.u32(8, Irq.MSIX);
    });
    const { body, view } = this.link.connection;
    if (body.length < IRQ_INFO_BYTES || view.getUint32(8, true) !== Irq.MSIX) throw this.garbage('DEVICE_GET_IRQ_INFO');
    const count = view.getUint32(12, true);
    if ((view.getUint32(4, true) & IrqInfoFlag.EVENTFD) === 0 || count < 1) {
      throw this.unsupported(
        'the device has no MSI-X vectors that event counters can be bound to',
        'is this the socket of an SDXI function?',
      );
    }
    return count;
  }

  /** Memory space and bus mastering on, every vector bound to its eventfd: what a reset takes away. */
  setUp(fds: readonly number[]): void {
    const command = this.readNumber(Region.CONFIG, 4, 2);
    this.write(Region.CONFIG, 4, 2, BigInt(command | COMMAND_MEMORY_AND_MASTER));
    for (let start = 0; start < fds.length; start += this.maxFds) {
      this.setIrqs(IrqSetFlag.EVENTFD | IrqSetFlag.TRIGGER, start, fds.slice(start, start + this.maxFds));
    }
  }

  /** No vector is bound any more. */
  disableInterrupts(): void {
    this.setIrqs(IrqSetFlag.NONE | IrqSetFlag.TRIGGER, 0, []);
  }

  private setIrqs(flags: number, start: number, fds: readonly number[]): void {
    const fill = ({ out }: Connection): void => {
      out.u32(0, SET_IRQS_BYTES);
      out.u32(4, flags);
      out.u32(8, Irq.MSIX);
      out.u32(12, start);
      out.u32(16, fds.length);
    };
    this.demand(Command.DEVICE_SET_IRQS, SET_IRQS_BYTES, fill, fds);
  }

  reset(): void {
    if (!this.canReset) throw this.unsupported('the server cannot reset its device', 'start the server anew');
    this.demand(Command.DEVICE_RESET, 0, () => {});
  }

  // ---- Accesses to regions

  /** @param count 1, 2, 4 or 8 */
  read(region: number, offset: number, count: number): bigint {
    this.demand(Command.REGION_READ, REGION_ACCESS_BYTES, accessOf(region, offset, count), [], this.registerTimeoutMs);
    const { body, view } = this.link.connection;
    this.checkAccess(region, offset, count, body.length === REGION_ACCESS_BYTES + count);
    if (count === 8) return view.getBigUint64(REGION_ACCESS_BYTES, true);
    let value = 0;
    for (let i = count - 1; i >= 0; i--) value = value * 256 + view.getUint8(REGION_ACCESS_BYTES + i);
    return BigInt(value);
  }

  private readNumber(region: number, offset: number, count: number): number {
    return Number(this.read(region, offset, count));
  }

  /** Returns when the device has seen it. */
  write(region: number, offset: number, count: number, value: bigint): void {
    this.demand(Command.REGION_WRITE, REGION_ACCESS_BYTES + count, writeOf(region, offset, count, value), [], this.registerTimeoutMs);
    this.checkAccess(region, offset, count, this.link.connection.body.length >= REGION_ACCESS_BYTES);
  }

  private checkAccess(region: number, offset: number, count: number, whole: boolean): void {
    const { view } = this.link.connection;
    if (whole && field64(view, 0) === offset && view.getUint32(8, true) === region && view.getUint32(12, true) === count) return;
    throw this.garbage(`an access to ${count} bytes at ${offset} of region ${region} that it did not get`);
  }

  /** The device sees it before anything that is asked of it later. */
  postDoorbell(offset: number, value: number): void {
    const fill = ({ out }: Connection): void => {
      out.u64(0, offset);
      out.u32(8, Region.BAR2);
      out.u32(12, 8);
      out.u64(REGION_ACCESS_BYTES, value);
    };
    this.link.post(Command.REGION_WRITE, REGION_ACCESS_BYTES + 8, fill, this.registerTimeoutMs);
  }
}

const accessOf =
  (region: number, offset: number, count: number) =>
  ({ out }: Connection): void => {
    out.u64(0, offset);
    out.u32(8, region);
    out.u32(12, count);
  };

const writeOf =
  (region: number, offset: number, count: number, value: bigint) =>
  (connection: Connection): void => {
    accessOf(region, offset, count)(connection);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    connection.out.bytes(REGION_ACCESS_BYTES, bytes.subarray(0, count));
  };

/** A request whose fields are zero but for argsz. */
function zeros(out: Connection['out'], bytes: number): void {
  for (let at = 0; at < bytes; at += 4) out.u32(at, at === 0 ? bytes : 0);
}

function closeAll({ fd }: { fd?: number }): void {
  if (fd !== undefined) closeFd(fd);
}

/**
 * Maps what can be mapped; other doorbells are written by messages. A file that could get shorter would kill this process with SIGBUS, and of
 * one that is sealed in other ways the kernel may map nothing.
 */
function mapAreas({ areas, fd, fileOffset, flags }: RegionInfo): MappedDoorbells[] {
  if (fd === undefined || (flags & RegionFlag.WRITE) === 0 || !isSealedAgainstShrinking(fd) || !isWritable(fd)) return [];
  const { size: fileBytes } = fstatSync(fd);
  const mapped: MappedDoorbells[] = [];
  for (const { offset, size } of areas) {
    const at = fileOffset + offset;
    if (at % PAGE !== 0 || size % PAGE !== 0 || at + size > fileBytes || size > 2 ** 31) continue;
    let address: number;
    try {
      address = mapShared(fd, at, size);
    } catch (error) {
      if (error instanceof SystemError) continue;
      throw error;
    }
    mapped.push({
      offset,
      byteLength: size,
      words: new BigInt64Array(viewMemory(address, size)),
      unmap: () => unmapMemory(address, size),
    });
  }
  return mapped;
}
