import { BusLostError, ClosedError, SdxiError } from '../../errors.js';
import { NO_PASID } from '../../memory/address-space.js';
import { relax } from '../../memory/spin.js';
import { connectTo, Errno, isSocket } from '../../native/socket.js';
import { BAR0_BYTES } from '../../spec/limits.js';
import { Region } from '../../vfio-user/messages.js';
import type { Bus, MapRequest, WaitOptions } from '../bus.js';
import { checkDoorbellValue, checkOffset, checkRange, checkRegisterValue, checkSpin, checkVector, checkWait } from '../checks.js';
import { EventWatch } from '../watch/event-watch.js';
import { type MappedDoorbells, ServedDevice } from './device.js';
import { Link } from './link.js';
import { ServedMemory } from './memory.js';
import { MigrationClient } from './migration.js';
import { SharedLink } from './shared.js';
import { type VfioUserSettings, vfioUserSettings } from './uri.js';
import type { LinkData } from './watcher.js';

/** How long the server may take to let go when the bus is closed; it does so in any case when the connection ends. */
const CLOSE_MS = 5000;
/** A spin looks so often between two looks at the clock. */
const LOOKS = 16;

/** The built thread; see `watcherEntry`. */
function linkWatcherEntry(): URL {
  const built = import.meta.url.replace(/\/src\/bus\/vfio-user\/[^/]+\.ts$/, '/dist/bus/vfio-user/vfio-user.js');
  return new URL('./watcher-thread.js', built);
}

/** A function that another process serves over a socket: `sdxi serve`, or any other vfio-user server of an SDXI function. */
export class VfioUserBus implements Bus {
  readonly uri: string;
  readonly vectors: number;
  readonly doorbellBytes: number;
  /** Each function of a server has a socket of its own. */
  readonly virtualFunctions: readonly Bus[] = [];
  readonly details: Readonly<Record<string, string | number>>;
  /** Saves the function's state and loads it, and tells which pages it writes. */
  readonly migration: MigrationClient;
  private readonly settings: VfioUserSettings;
  private readonly link: Link;
  private readonly device: ServedDevice;
  private readonly memory: ServedMemory;
  private readonly watch: EventWatch;
  private readonly mapped: readonly MappedDoorbells[];
  private closing?: Promise<void>;

  /**
   * @param uri `vfio-user:PATH[?option=value&…]`; options are `registerTimeoutMs`, `openTimeoutMs`, `vectors`, `postedWrites`, `mapDoorbells`, `shareMemory`
   * @throws SdxiError ERR_SDXI_URI; ArgumentError for options; ERR_SDXI_SYSTEM when nobody serves there; ERR_SDXI_UNSUPPORTED for what is no
   * SDXI function; BusLostError when the server goes away, or does not keep to the protocol
   */
  static async open(uri: string): Promise<VfioUserBus> {
    const settings = vfioUserSettings(uri);
    const fd = connectTo(settings.path);
    if (fd < 0) throw noServer(settings, -fd);
    let watch: EventWatch | undefined;
    let mapped: MappedDoorbells[] = [];
    const shared = new SharedLink();
    const link = new Link(fd, shared, (reason) => {
      watch?.fail(reason);
      if (watch) return lostError(uri, watch.running ? reason : watch.reason);
      return notOpened(uri, reason);
    });
    const deadline = performance.now() + settings.openTimeoutMs;
    const timeLeft = () => Math.max(0, Math.ceil(deadline - performance.now()));
    try {
      const device = new ServedDevice(link, settings);
      await device.version(timeLeft());
      mapped = link.hold(timeLeft(), () => device.discover(settings.mapDoorbells, settings.vectors));
      const own: LinkData = { socket: fd, link: shared.buffer, timeoutMs: settings.registerTimeoutMs };
      watch = EventWatch.start({
        uri,
        vectors: device.vectors,
        lost: [{ fd, on: 'hang-up', reason: 'it closed the connection' }],
        program: { entry: linkWatcherEntry(), own },
      });
      const { fds } = watch;
      link.hold(timeLeft(), () => device.setUp(fds));
      return new VfioUserBus(settings, link, device, watch, mapped);
    } catch (error) {
      for (const area of mapped) area.unmap();
      await watch?.close();
      link.connection.close();
      throw error;
    }
  }

  private constructor(settings: VfioUserSettings, link: Link, device: ServedDevice, watch: EventWatch, mapped: readonly MappedDoorbells[]) {
    this.uri = settings.uri;
    this.settings = settings;
    this.link = link;
    this.device = device;
    this.watch = watch;
    this.mapped = mapped;
    this.memory = new ServedMemory(device, settings);
    this.vectors = device.vectors;
    this.doorbellBytes = device.doorbellBytes;
    this.migration = new MigrationClient(device, (action) => this.hold(action));
    this.details = {
      doorbells: mapped.length > 0 ? 'mapped' : settings.postedWrites ? 'posted messages' : 'messages',
      memory: settings.shareMemory ? 'file descriptors' : 'messages',
      reset: device.canReset ? 'function-level' : 'none',
    };
  }

  private hold<T>(action: () => T): T {
    this.check();
    return this.link.hold(this.device.slowMs, action);
  }

  // ---- Registers and doorbells

  readRegister(offset: number): bigint {
    this.check();
    checkOffset(offset, BAR0_BYTES, 'registers');
    return this.hold(() => this.device.read(Region.BAR0, offset, 8));
  }

  writeRegister(offset: number, value: bigint): void {
    this.check();
    checkOffset(offset, BAR0_BYTES, 'registers');
    checkRegisterValue(value);
    this.hold(() => this.device.write(Region.BAR0, offset, 8, value));
  }

  writeDoorbell(offset: number, value: number): void {
    this.check();
    checkDoorbellValue(value);
    checkOffset(offset, this.doorbellBytes, 'doorbells');
    for (const area of this.mapped) {
      const at = (offset - area.offset) / 8;
      if (at >>> 0 !== at || at >= area.words.length) continue;
      Atomics.store(area.words, at, BigInt(value));
      return;
    }
    if (this.settings.postedWrites) this.hold(() => this.device.postDoorbell(offset, value));
    else this.hold(() => this.device.write(Region.BAR2, offset, 8, BigInt(value)));
  }

  // ---- Memory

  /** Memory without a file (pinned) is served by messages: by this thread while it waits for a reply, by the watcher otherwise. */
  map(request: MapRequest): void {
    this.hold(() => this.memory.map(request));
    // It waits for the server's commands from the first such mapping on.
    this.watch.wake();
  }

  unmap(iova: number, byteLength: number, pasid = NO_PASID): void {
    this.check();
    checkRange(iova, byteLength);
    this.hold(() => this.memory.unmap(iova, byteLength, pasid));
  }

  // ---- Interrupts

  interruptCount(vector: number): number {
    return this.words(vector).count(vector);
  }

  /** At this end, as an MSI-X table does it. From its return on no delivery is counted. */
  maskInterrupt(vector: number): void {
    this.words(vector).mask(vector);
  }

  unmaskInterrupt(vector: number): void {
    this.words(vector).unmask(vector);
  }

  interruptPending(vector: number): boolean {
    return this.words(vector).pending(vector);
  }

  private words(vector: number): EventWatch['words'] {
    this.check();
    checkVector(vector, this.vectors);
    return this.watch.words;
  }

  // ---- Waiting

  /** @see Bus.wait */
  async wait(condition: () => boolean, options: WaitOptions): Promise<void> {
    this.check();
    checkWait(condition, options, this.vectors);
    await this.watch.wait(condition, options);
  }

  /** @see Bus.spin */
  spin(condition: () => boolean, timeoutMs: number): boolean {
    checkSpin(condition, timeoutMs);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      this.check();
      for (let look = 0; look < LOOKS; look++) {
        if (condition()) return true;
        relax();
      }
      if (performance.now() >= deadline) return condition();
    }
  }

  ref(): void {
    this.watch.ref();
  }

  unref(): void {
    this.watch.unref();
  }

  // ---- The end

  /** DEVICE_RESET, and everything that it takes. Memory stays mapped; vectors are as after opening: unmasked, nothing pending. */
  reset(): void {
    this.hold(() => {
      this.device.reset();
      this.device.setUp(this.watch.fds);
    });
    this.watch.words.reset();
  }

  /** @throws ClosedError, BusLostError */
  private check(): void {
    if (this.closing) throw new ClosedError(this.uri);
    this.watch.check();
  }

  close(): Promise<void> {
    this.closing ??= this.end(this.watch.running);
    return this.closing;
  }

  private async end(running: boolean): Promise<void> {
    const { link, device, memory, watch } = this;
    try {
      if (running) {
        link.hold(Math.max(CLOSE_MS, this.settings.registerTimeoutMs), () => {
          device.disableInterrupts();
          memory.unmapAll();
        });
      }
    } catch (error) {
      // The server forgets all of it anyway when the connection ends.
      if (!(error instanceof SdxiError)) throw error;
    }
    await watch.close();
    link.connection.close();
    for (const area of this.mapped) area.unmap();
    memory.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function lostError(uri: string, reason: string): BusLostError {
  return new BusLostError(`the server of ${uri} is gone: ${reason}`, { fields: { uri, reason } });
}

function notOpened(uri: string, reason: string): BusLostError {
  return new BusLostError(`${uri} could not be opened: ${reason}`, {
    hint: 'a function has one client at a time: end the other one; otherwise the log of the server says more, if it is one of vfio-user',
    fields: { uri, reason },
  });
}

const NO_SERVER: Readonly<Record<number, readonly [why: string, hint: string]>> = {
  [Errno.ENOENT]: ['there is no such socket', 'start a server: sdxi serve --socket PATH'],
  [Errno.ECONNREFUSED]: ['nobody listens there', 'its server has ended: start it anew (sdxi serve --socket PATH)'],
  [Errno.EACCES]: ['permission denied', 'the socket belongs to whoever started the server: run as the same user'],
  [Errno.EAGAIN]: ['too many clients wait', 'a function has one client at a time: close the other one'],
};

function noServer({ uri, path }: VfioUserSettings, errno: number): SdxiError {
  const [why, hint] =
    errno === Errno.ECONNREFUSED && !isSocket(path)
      ? ['it is no socket', 'give the path that sdxi serve was given']
      : (NO_SERVER[errno] ?? [`errno ${errno}`, 'is it the socket of a vfio-user server?']);
  return new SdxiError('ERR_SDXI_SYSTEM', `cannot connect to ${path}: ${why}`, { hint, fields: { uri, path, errno } });
}
