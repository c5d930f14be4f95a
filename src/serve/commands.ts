import { Errno, FDS_MAX } from '../native/socket.js';
import type { Connection } from '../vfio-user/connection.js';
import {
  CAP_SPARSE_MMAP,
  type Capabilities,
  Command,
  commandName,
  DEVICE_INFO_BYTES,
  DeviceFlag,
  DMA_MAP_BYTES,
  DMA_UNMAP_BYTES,
  decodeVersion,
  encodeVersion,
  field64,
  IRQ_INFO_BYTES,
  IRQS,
  MAX_BITMAP,
  MAX_DATA_XFER,
  MAX_DMA_MAPS,
  MapFlag,
  PAGE_SIZES,
  PROTOCOL_MAJOR,
  PROTOCOL_MINOR,
  REGION_ACCESS_BYTES,
  REGION_INFO_BYTES,
  REGIONS,
  Region,
  RegionFlag,
  SET_IRQS_BYTES,
  WRITE_MULTI_ENTRY_BYTES,
  WRITE_MULTI_MAX,
} from '../vfio-user/messages.js';
import type { Device } from './device.js';
import type { Doorbells } from './doorbells.js';
import { Refusal } from './files.js';
import type { GuestMemory } from './guest-memory.js';
import type { ClientInterrupts } from './interrupts.js';
import type { Migration } from './migration.js';
import type { Request } from './request.js';

/** A reply, whose body lies in the connection's outBody. */
export interface Reply {
  readonly bytes: number;
  readonly fds?: readonly number[];
}

const EMPTY: Reply = { bytes: 0 };

/** What the commands act on. */
export interface Served {
  readonly device: Device;
  readonly memory: GuestMemory;
  readonly interrupts: ClientInterrupts;
  readonly migration: Migration;
  /** Doorbells that the client may map. */
  readonly doorbells?: Doorbells;
  /** The client has touched a region: from here on the function may run. */
  touched(): void;
  /** The device was reset by its client. */
  reset(): void;
}

const bad = (why: string): Refusal => new Refusal(Errno.EINVAL, why);

/**
 * The commands of the protocol, each as its document says. Every field comes from a stranger: what is not as it has to be is refused
 * and changes nothing.
 */
export class CommandTable {
  private readonly served: Served;

  constructor(served: Served) {
    this.served = served;
  }

  /** Whether a command may be carried out in the middle of a step: it neither needs nor changes the function's state. */
  independent({ command, view, bytes }: Request): boolean {
    switch (command) {
      case Command.REGION_READ:
      case Command.DEVICE_GET_INFO:
      case Command.DEVICE_GET_REGION_INFO:
      case Command.DEVICE_GET_REGION_IO_FDS:
      case Command.DEVICE_GET_IRQ_INFO:
      case Command.DEVICE_SET_IRQS:
      case Command.DMA_MAP:
        return true;
      case Command.REGION_WRITE:
        // MSI-X only: doorbells, registers and configuration space have to wait.
        return bytes >= REGION_ACCESS_BYTES && view.getUint32(8, true) === Region.BAR4;
      default:
        return false;
    }
  }

  perform(request: Request, connection: Connection): Reply | Refusal {
    switch (request.command) {
      case Command.REGION_READ:
        return this.regionRead(request, connection);
      case Command.REGION_WRITE:
        return this.regionWrite(request, connection);
      case Command.REGION_WRITE_MULTI:
        return this.regionWriteMulti(request, connection);
      case Command.DMA_MAP:
        return this.dmaMap(request);
      case Command.DMA_UNMAP:
        return this.dmaUnmap(request, connection);
      case Command.DEVICE_GET_INFO:
        return this.deviceInfo(request, connection);
      case Command.DEVICE_GET_REGION_INFO:
        return this.regionInfo(request, connection);
      case Command.DEVICE_GET_REGION_IO_FDS:
        return this.regionIoFds(request, connection);
      case Command.DEVICE_GET_IRQ_INFO:
        return this.irqInfo(request, connection);
      case Command.DEVICE_SET_IRQS:
        return this.setIrqs(request);
      case Command.DEVICE_RESET:
        if (request.bytes !== 0) return bad('it has no body');
        this.served.reset();
        return EMPTY;
      case Command.DEVICE_FEATURE:
        return this.served.migration.feature(request, connection);
      case Command.MIG_DATA_READ:
        return this.served.migration.dataRead(request, connection);
      case Command.MIG_DATA_WRITE:
        return this.served.migration.dataWrite(request);
      default:
        return bad(`${commandName(request.command)} is nothing that a client sends`);
    }
  }

  /** @returns the reply, and how much data the client takes in one message */
  version({ body }: Request, connection: Connection): { reply: Reply; maxTransfer: number } | Refusal {
    const asked = decodeVersion(body);
    if (asked === undefined) return bad('VERSION cannot be read');
    if (asked.major !== PROTOCOL_MAJOR) return bad(`it speaks version ${asked.major}, this is ${PROTOCOL_MAJOR}.${PROTOCOL_MINOR}`);
    const { capabilities } = asked;
    const numbers = ['max_msg_fds', 'max_data_xfer_size', 'max_dma_maps', 'pgsizes'] as const;
    const wrong = numbers.find((name) => {
      const value = capabilities[name];
      return value !== undefined && !(Number.isSafeInteger(value) && value > 0);
    });
    if (wrong !== undefined) return bad(`its ${wrong} is no positive number`);
    const answer = encodeVersion(PROTOCOL_MAJOR, Math.min(asked.minor, PROTOCOL_MINOR), ownCapabilities(capabilities));
    connection.out.bytes(0, answer);
    return { reply: { bytes: answer.length }, maxTransfer: capabilities.max_data_xfer_size ?? MAX_DATA_XFER };
  }

  private deviceInfo({ bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < DEVICE_INFO_BYTES) return bad('it is too short');
    if (view.getUint32(0, true) < DEVICE_INFO_BYTES) return bad('argsz is too small');
    out.u32(0, DEVICE_INFO_BYTES);
    out.u32(4, DeviceFlag.RESET | DeviceFlag.PCI);
    out.u32(8, REGIONS);
    out.u32(12, IRQS);
    return { bytes: DEVICE_INFO_BYTES };
  }

  private regionInfo({ bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < REGION_INFO_BYTES) return bad('it is too short');
    const argsz = view.getUint32(0, true);
    const index = view.getUint32(8, true);
    if (argsz < REGION_INFO_BYTES) return bad(`argsz is ${argsz}, ${REGION_INFO_BYTES} at least are needed`);
    if (index >= REGIONS) return bad(`there is no region ${index}`);
    const { device, doorbells } = this.served;
    const mapped = index === Region.BAR2 ? doorbells : undefined;
    const needed = mapped ? REGION_INFO_BYTES + 32 : REGION_INFO_BYTES;
    const whole = argsz >= needed;
    out.u32(0, needed);
    out.u32(4, device.regionFlags(index) | (mapped ? RegionFlag.MMAP | RegionFlag.CAPS : 0));
    out.u32(8, index);
    out.u32(12, mapped && whole ? REGION_INFO_BYTES : 0);
    out.u64(16, device.regionBytes(index));
    out.u64(24, 0);
    if (!mapped) return { bytes: REGION_INFO_BYTES };
    if (!whole) return { bytes: REGION_INFO_BYTES };
    out.u32(32, CAP_SPARSE_MMAP | (1 << 16)); // id, version 1
    out.u32(36, 0); // the last capability
    out.u32(40, 1); // one area
    out.u32(44, 0);
    out.u64(48, 0);
    out.u64(56, mapped.byteLength);
    return { bytes: needed, fds: [mapped.fd] };
  }

  /** No region has such descriptors: eventfds for doorbells would carry no value, and QEMU does not ask for them. */
  private regionIoFds({ bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < 16) return bad('it is too short');
    if (view.getUint32(0, true) < 16) return bad('argsz is too small');
    if (view.getUint32(4, true) !== 0) return bad('flags are not zero');
    const index = view.getUint32(8, true);
    if (index >= REGIONS) return bad(`there is no region ${index}`);
    out.u32(0, 16);
    out.u32(4, 0);
    out.u32(8, index);
    out.u32(12, 0);
    return { bytes: 16 };
  }

  private irqInfo({ bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < IRQ_INFO_BYTES) return bad('it is too short');
    if (view.getUint32(0, true) < IRQ_INFO_BYTES) return bad('argsz is too small');
    const index = view.getUint32(8, true);
    const info = this.served.interrupts.info(index);
    if (info === undefined) return bad(`there is no interrupt type ${index}`);
    out.u32(0, IRQ_INFO_BYTES);
    out.u32(4, info.flags);
    out.u32(8, index);
    out.u32(12, info.count);
    return { bytes: IRQ_INFO_BYTES };
  }

  private setIrqs(request: Request): Reply | Refusal {
    const { body, bytes, view, fdsLost } = request;
    if (bytes < SET_IRQS_BYTES) return bad('it is too short');
    if (view.getUint32(0, true) !== bytes) return bad(`argsz is ${view.getUint32(0, true)}, the message has ${bytes}`);
    if (fdsLost) return bad(`more than ${FDS_MAX} descriptors in one message`);
    const refusal = this.served.interrupts.set({
      flags: view.getUint32(4, true),
      index: view.getUint32(8, true),
      start: view.getUint32(12, true),
      count: view.getUint32(16, true),
      data: body.subarray(SET_IRQS_BYTES),
      fds: request.fds,
    });
    if (refusal !== undefined) return refusal;
    request.fds = [];
    return EMPTY;
  }

  private dmaMap({ bytes, view, fds, fdsLost }: Request): Reply | Refusal {
    if (bytes !== DMA_MAP_BYTES) return bad(`it has ${bytes} bytes, not ${DMA_MAP_BYTES}`);
    if (view.getUint32(0, true) < DMA_MAP_BYTES) return bad('argsz is too small');
    const flags = view.getUint32(4, true);
    if ((flags & ~(MapFlag.READ | MapFlag.WRITE | MapFlag.MMAP | MapFlag.FILE_IO)) !== 0) return bad(`flags 0x${flags.toString(16)}`);
    if (fds.length > 1 || fdsLost) return bad('it has more than one descriptor');
    if ((flags & (MapFlag.MMAP | MapFlag.FILE_IO)) !== 0 && fds.length === 0) return bad('its access mode needs a descriptor');
    const refusal = this.served.memory.map({
      address: field64(view, 16),
      byteLength: field64(view, 24),
      access: flags & (MapFlag.READ | MapFlag.WRITE),
      offset: field64(view, 8),
      fd: fds[0],
    });
    return refusal ?? EMPTY;
  }

  private dmaUnmap({ body, bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < DMA_UNMAP_BYTES) return bad('it is too short');
    if (view.getUint32(0, true) < DMA_UNMAP_BYTES) return bad('argsz is too small');
    const flags = view.getUint32(4, true);
    if (flags !== 0) return bad(`flags 0x${flags.toString(16)}, which this version does not use`);
    const refusal = this.served.memory.unmap(field64(view, 8), field64(view, 16));
    if (refusal !== undefined) return refusal;
    out.bytes(0, body.subarray(0, DMA_UNMAP_BYTES));
    return { bytes: DMA_UNMAP_BYTES };
  }

  /** Why an access to a region cannot be. */
  private outside(offset: number, region: number, count: number): Refusal | undefined {
    const byteLength = this.served.device.regionBytes(region);
    if (byteLength === 0) return bad(`there is no region ${region}`);
    if (offset < 0 || count === 0 || count > MAX_DATA_XFER || offset + count > byteLength) {
      return bad(`${count} bytes at ${offset} of region ${region}, which has ${byteLength}`);
    }
    return undefined;
  }

  private regionRead({ bytes, view }: Request, connection: Connection): Reply | Refusal {
    if (bytes !== REGION_ACCESS_BYTES) return bad(`it has ${bytes} bytes, not ${REGION_ACCESS_BYTES}`);
    const offset = field64(view, 0);
    const region = view.getUint32(8, true);
    const count = view.getUint32(12, true);
    const refusal = this.outside(offset, region, count);
    if (refusal !== undefined) return refusal;
    this.served.touched();
    const { out } = connection;
    out.u64(0, offset);
    out.u32(8, region);
    out.u32(12, count);
    this.served.device.read(region, offset, connection.outBody.subarray(REGION_ACCESS_BYTES, REGION_ACCESS_BYTES + count));
    return { bytes: REGION_ACCESS_BYTES + count };
  }

  private regionWrite({ body, bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < REGION_ACCESS_BYTES) return bad('it is too short');
    const offset = field64(view, 0);
    const region = view.getUint32(8, true);
    const count = view.getUint32(12, true);
    if (bytes !== REGION_ACCESS_BYTES + count) return bad(`it has ${bytes} bytes, not ${REGION_ACCESS_BYTES + count}`);
    const refusal = this.outside(offset, region, count);
    if (refusal !== undefined) return refusal;
    this.served.touched();
    this.served.device.write(region, offset, body.subarray(REGION_ACCESS_BYTES));
    out.u64(0, offset);
    out.u32(8, region);
    out.u32(12, count);
    return { bytes: REGION_ACCESS_BYTES };
  }

  private regionWriteMulti({ body, bytes, view }: Request, { out }: Connection): Reply | Refusal {
    if (bytes < 8) return bad('it is too short');
    const count = field64(view, 0);
    if (count < 1 || count > WRITE_MULTI_MAX) return bad(`${count} writes, of at most ${WRITE_MULTI_MAX}`);
    if (bytes !== 8 + count * WRITE_MULTI_ENTRY_BYTES) return bad(`it has ${bytes} bytes for ${count} writes`);
    // All of them are looked at before the first is made.
    for (let i = 0; i < count; i++) {
      const at = 8 + i * WRITE_MULTI_ENTRY_BYTES;
      const size = view.getUint32(at + 12, true);
      const refusal = size > 8 ? bad(`a write of ${size} bytes`) : this.outside(field64(view, at), view.getUint32(at + 8, true), size);
      if (refusal !== undefined) return refusal;
    }
    this.served.touched();
    for (let i = 0; i < count; i++) {
      const at = 8 + i * WRITE_MULTI_ENTRY_BYTES;
      const size = view.getUint32(at + 12, true);
      this.served.device.write(view.getUint32(at + 8, true), field64(view, at), body.subarray(at + 16, at + 16 + size));
    }
    out.u64(0, count);
    return { bytes: 8 };
  }
}

/** The reply names nothing that was not proposed. */
function ownCapabilities(asked: Capabilities): Capabilities {
  const own: Capabilities = {
    max_msg_fds: FDS_MAX,
    max_data_xfer_size: MAX_DATA_XFER,
    max_dma_maps: MAX_DMA_MAPS,
    pgsizes: PAGE_SIZES,
    migration: { pgsize: PAGE_SIZES, max_bitmap_size: MAX_BITMAP },
    write_multiple: asked.write_multiple === true ? true : undefined,
  };
  return Object.fromEntries(Object.entries(own).filter(([name, value]) => value !== undefined && Object.hasOwn(asked, name)));
}
