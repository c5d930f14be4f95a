import { SdxiError } from '../errors.js';
import { Errno } from '../native/socket.js';
import type { Connection } from '../vfio-user/connection.js';
import {
  FEATURE_BYTES,
  Feature,
  FeatureFlag,
  field64,
  MAX_BITMAP,
  MAX_DATA_XFER,
  MIG_DATA_BYTES,
  MIGRATION_STOP_COPY,
  MigrationState,
} from '../vfio-user/messages.js';
import type { Reply } from './commands.js';
import type { Device } from './device.js';
import { Refusal } from './files.js';
import type { GroupMember } from './group.js';
import type { GuestMemory } from './guest-memory.js';
import type { Request } from './request.js';

/** A function brings what it has begun to an end before it stands still; a copy of 4 GiB takes a second or two. */
const FREEZE_MS = 20_000;
const FREEZE_TURNS = 64;
/** Most bytes of a saved state: registers, MSI-X, and a few words for each context. */
const STATE_MAX = 64 << 20;
const RANGES_MAX = 4096;
const FORMAT = 'sdxi-device/1';

const bad = (why: string, errno: number = Errno.EINVAL): Refusal => new Refusal(errno, why);

/** All of a device but the memory that it works on. */
interface SavedDevice {
  readonly format: typeof FORMAT;
  readonly function: unknown;
  readonly pci: unknown;
}

/**
 * Live migration: DEVICE_FEATURE with the states of VFIO, MIG_DATA_READ and MIG_DATA_WRITE, and the log of dirty pages. What migrates is
 * the snapshot of the function with that of its configuration space (ref §10). The guest notices nothing: the function stands still
 * between two descriptors, in whatever state it is.
 */
export class Migration {
  private readonly device: Device;
  private readonly memory: GuestMemory;
  /** Others that write to this function's memory, too. */
  private readonly group?: GroupMember;
  private state: MigrationState = MigrationState.RUNNING;
  /** What is read in STOP_COPY. */
  private outgoing: Uint8Array | undefined;
  private sent = 0;
  /** What was written in RESUMING. */
  private incoming: Uint8Array[] = [];
  private incomingBytes = 0;

  constructor(device: Device, memory: GuestMemory, group?: GroupMember) {
    this.device = device;
    this.memory = memory;
    this.group = group;
  }

  /** The function stands still. */
  get stopped(): boolean {
    return this.state !== MigrationState.RUNNING;
  }

  /** DEVICE_RESET, which is also the way out of the ERROR state. */
  reset(): void {
    this.endTransfer();
    this.device.fn.thaw();
    this.state = MigrationState.RUNNING;
  }

  /** The client is gone. What it has begun is given up: a device that it stopped goes on as it is. */
  clientGone(): void {
    if (this.state === MigrationState.ERROR) this.device.reset();
    this.reset();
    this.stopLog();
  }

  feature(request: Request, connection: Connection): Reply | Refusal {
    const { view } = request;
    if (request.bytes < FEATURE_BYTES) return bad('it is too short');
    const argsz = view.getUint32(0, true);
    const flags = view.getUint32(4, true);
    const index = flags & FeatureFlag.INDEX;
    const get = (flags & FeatureFlag.GET) !== 0;
    const set = (flags & FeatureFlag.SET) !== 0;
    const probe = (flags & FeatureFlag.PROBE) !== 0;
    if (argsz < FEATURE_BYTES) return bad('argsz is too small');
    if ((flags & ~(FeatureFlag.INDEX | FeatureFlag.GET | FeatureFlag.SET | FeatureFlag.PROBE)) !== 0)
      return bad(`flags 0x${flags.toString(16)}`);
    const methods = METHODS[index];
    if (methods === undefined) return bad(`there is no feature ${index}`, Errno.ENOTTY);
    if ((get && !methods.get) || (set && !methods.set))
      return bad(`feature ${index} cannot be ${get && !methods.get ? 'read' : 'set'}`, Errno.ENOTTY);
    if (probe) return this.echo(request, connection, FEATURE_BYTES);
    if (get === set) return bad('neither GET nor SET, or both');
    switch (index) {
      case Feature.MIGRATION:
        return this.capability(request, connection);
      case Feature.MIG_DEVICE_STATE:
        return get ? this.stateReply(request, connection) : this.setState(request, connection);
      case Feature.DMA_LOGGING_START:
        return this.startLog(request, connection);
      case Feature.DMA_LOGGING_STOP:
        if (!this.memory.log.active) return bad('nothing is logged');
        this.stopLog();
        return this.echo(request, connection, FEATURE_BYTES);
      default:
        return this.report(request, connection);
    }
  }

  /** A reply that says what the request said. */
  private echo({ body, view }: Request, { out }: Connection, bytes: number): Reply {
    out.u32(0, bytes);
    out.u32(4, view.getUint32(4, true));
    out.bytes(FEATURE_BYTES, body.subarray(FEATURE_BYTES, bytes));
    return { bytes };
  }

  private capability(request: Request, connection: Connection): Reply {
    this.echo(request, connection, FEATURE_BYTES);
    connection.out.u32(0, FEATURE_BYTES + 8);
    connection.out.u64(FEATURE_BYTES, MIGRATION_STOP_COPY);
    return this.fits(request, FEATURE_BYTES + 8);
  }

  private stateReply(request: Request, connection: Connection): Reply {
    this.echo(request, connection, FEATURE_BYTES);
    connection.out.u32(0, FEATURE_BYTES + 8);
    connection.out.u32(FEATURE_BYTES, this.state);
    connection.out.u32(FEATURE_BYTES + 4, 0xffff_ffff); // data_fd is not used
    return this.fits(request, FEATURE_BYTES + 8);
  }

  /** argsz of the request is what its sender has room for: of a longer reply only the size is told. */
  private fits({ view }: Request, bytes: number): Reply {
    return { bytes: view.getUint32(0, true) >= bytes ? bytes : FEATURE_BYTES };
  }

  // ---- States

  private setState(request: Request, connection: Connection): Reply | Refusal {
    if (request.bytes < FEATURE_BYTES + 8) return bad('it is too short');
    if (request.view.getUint32(0, true) < FEATURE_BYTES + 8) return bad('argsz is too small');
    const wanted = request.view.getUint32(FEATURE_BYTES, true);
    if (!SETTABLE.includes(wanted as MigrationState)) return bad(`there is no state ${wanted} to go to`);
    if (this.state === MigrationState.ERROR) return bad('the device has failed: reset it', Errno.EIO);
    const refusal = this.go(wanted as MigrationState);
    if (refusal !== undefined) return refusal;
    const reply = this.echo(request, connection, FEATURE_BYTES + 8);
    connection.out.u32(FEATURE_BYTES + 4, 0xffff_ffff);
    return reply;
  }

  /** All ways between two states lead over STOP. */
  private go(wanted: MigrationState): Refusal | undefined {
    if (wanted === this.state) return undefined;
    const refusal = this.toStop();
    if (refusal !== undefined || wanted === MigrationState.STOP) return refusal;
    if (wanted === MigrationState.RUNNING) this.device.fn.thaw();
    else if (wanted === MigrationState.STOP_COPY) this.save();
    this.state = wanted;
    return undefined;
  }

  private toStop(): Refusal | undefined {
    if (this.state === MigrationState.RUNNING) {
      if (!this.freeze()) {
        this.device.fn.thaw();
        return bad(`it did not come to rest within ${FREEZE_MS} ms`, Errno.EBUSY);
      }
    } else if (this.state === MigrationState.RESUMING) {
      const refusal = this.load();
      this.endTransfer();
      if (refusal !== undefined) {
        this.state = MigrationState.ERROR;
        return refusal;
      }
    }
    this.endTransfer();
    this.state = MigrationState.STOP;
    return undefined;
  }

  private freeze(): boolean {
    const deadline = performance.now() + FREEZE_MS;
    for (;;) {
      const frozen = this.freezeStep();
      if (frozen || performance.now() >= deadline) return frozen;
    }
  }

  /** As a step of the function is, for everybody who looks on. */
  private freezeStep(): boolean {
    const { fabric } = this.group ?? {};
    fabric?.begin();
    const frozen = this.device.fn.freeze(FREEZE_TURNS);
    this.memory.endStep();
    fabric?.end();
    fabric?.publish();
    return frozen;
  }

  private save(): void {
    const { fn, pci } = this.device;
    const saved: SavedDevice = { format: FORMAT, function: fn.snapshot(), pci: pci.save() };
    this.outgoing = Buffer.from(JSON.stringify(saved));
    this.sent = 0;
  }

  private load(): Refusal | undefined {
    const { fn, pci } = this.device;
    try {
      const saved = JSON.parse(Buffer.concat(this.incoming).toString()) as Partial<SavedDevice> | null;
      if (saved?.format !== FORMAT) return bad(`the state is no ${FORMAT}`);
      fn.thaw();
      fn.reset();
      pci.reset();
      fn.restore(saved.function as Parameters<typeof fn.restore>[0]);
      pci.restore(saved.pci as Parameters<typeof pci.restore>[0]);
      return undefined;
    } catch (error) {
      if (!(error instanceof SdxiError || error instanceof SyntaxError)) throw error;
      return bad(`the state cannot be taken over: ${error.message}`);
    }
  }

  private endTransfer(): void {
    this.outgoing = undefined;
    this.incoming = [];
    this.incomingBytes = 0;
  }

  dataRead(request: Request, connection: Connection): Reply | Refusal {
    const { view } = request;
    if (request.bytes < MIG_DATA_BYTES) return bad('it is too short');
    const argsz = view.getUint32(0, true);
    const size = view.getUint32(4, true);
    if (size > MAX_DATA_XFER || argsz < MIG_DATA_BYTES + size) return bad(`size ${size} with argsz ${argsz}`);
    if (this.outgoing === undefined) return bad('no state is being read: STOP_COPY comes first');
    const piece = this.outgoing.subarray(this.sent, this.sent + size);
    this.sent += piece.length;
    connection.out.u32(0, MIG_DATA_BYTES + piece.length);
    connection.out.u32(4, piece.length);
    connection.out.bytes(MIG_DATA_BYTES, piece);
    return { bytes: MIG_DATA_BYTES + piece.length };
  }

  dataWrite(request: Request): Reply | Refusal {
    const { body, view } = request;
    if (request.bytes < MIG_DATA_BYTES) return bad('it is too short');
    const size = view.getUint32(4, true);
    if (size !== request.bytes - MIG_DATA_BYTES) return bad(`size is ${size}, ${request.bytes - MIG_DATA_BYTES} bytes came`);
    if (this.state !== MigrationState.RESUMING) return bad('no state is being written: RESUMING comes first');
    if (this.incomingBytes + size > STATE_MAX) return bad(`a state of more than ${STATE_MAX} bytes`, Errno.ENOSPC);
    this.incoming.push(body.slice(MIG_DATA_BYTES));
    this.incomingBytes += size;
    return { bytes: 0 };
  }

  // ---- Dirty pages

  private startLog(request: Request, connection: Connection): Reply | Refusal {
    const { view } = request;
    if (request.bytes < FEATURE_BYTES + 16) return bad('it is too short');
    const count = view.getUint32(FEATURE_BYTES + 8, true);
    if (count > RANGES_MAX || request.bytes < FEATURE_BYTES + 16 + 16 * count) return bad(`${count} ranges in ${request.bytes} bytes`);
    if (view.getUint32(0, true) < FEATURE_BYTES + 16 + 16 * count) return bad('argsz is too small');
    if (this.memory.log.active) return bad('pages are logged already', Errno.EBUSY);
    const asked = field64(view, FEATURE_BYTES);
    const pageBytes = isPageSize(asked) ? asked : 4096;
    const ranges: { start: number; end: number }[] = [];
    for (let i = 0; i < count; i++) {
      const start = field64(view, FEATURE_BYTES + 16 + 16 * i);
      const length = field64(view, FEATURE_BYTES + 24 + 16 * i);
      if (start < 0 || length <= 0) return bad(`range ${i} is no range of addresses below 2^53`);
      ranges.push({ start, end: start + length });
    }
    this.memory.startLog(pageBytes, ranges);
    this.group?.logTo(this.memory.log);
    const reply = this.echo(request, connection, FEATURE_BYTES + 16 + 16 * count);
    connection.out.u64(FEATURE_BYTES, pageBytes);
    return reply;
  }

  private stopLog(): void {
    if (!this.memory.log.active) return;
    this.memory.stopLog();
    this.group?.logTo(undefined);
  }

  private report(request: Request, connection: Connection): Reply | Refusal {
    const { view } = request;
    if (request.bytes < FEATURE_BYTES + 24) return bad('it is too short');
    const iova = field64(view, FEATURE_BYTES);
    const length = field64(view, FEATURE_BYTES + 8);
    const pageBytes = field64(view, FEATURE_BYTES + 16);
    if (!this.memory.log.active) return bad('nothing is logged');
    if (iova < 0 || length <= 0 || !isPageSize(pageBytes)) return bad('it is no range of pages');
    const bitmapBytes = Math.ceil(length / pageBytes / 64) * 8;
    const bytes = FEATURE_BYTES + 24 + bitmapBytes;
    if (bitmapBytes > MAX_BITMAP) return bad(`a bitmap of ${bitmapBytes} bytes, ${MAX_BITMAP} at most`);
    // Asked with less room the reply says only how much is needed, and nothing is forgotten.
    const whole = view.getUint32(0, true) >= bytes;
    const reply = this.echo(request, connection, FEATURE_BYTES + 24);
    connection.out.u32(0, bytes);
    if (!whole) return reply;
    const bitmap = connection.outBody.subarray(FEATURE_BYTES + 24, bytes);
    bitmap.fill(0);
    this.group?.collect();
    this.memory.log.report(iova, length, pageBytes, bitmap);
    return { bytes };
  }
}

const METHODS: Readonly<Record<number, { get?: true; set?: true }>> = {
  [Feature.MIGRATION]: { get: true },
  [Feature.MIG_DEVICE_STATE]: { get: true, set: true },
  [Feature.DMA_LOGGING_START]: { set: true },
  [Feature.DMA_LOGGING_STOP]: { set: true },
  [Feature.DMA_LOGGING_REPORT]: { get: true },
};

const SETTABLE: readonly MigrationState[] = [
  MigrationState.STOP,
  MigrationState.RUNNING,
  MigrationState.STOP_COPY,
  MigrationState.RESUMING,
];

const isPageSize = (bytes: number): boolean => bytes >= 4096 && bytes <= 2 ** 30 && Number.isInteger(Math.log2(bytes));
