import { Worker } from 'node:worker_threads';
import { ArgumentError, BusLostError, ClosedError } from '../../errors.js';
import type { FaultPlan } from '../../fault/index.js';
import { NO_PASID } from '../../memory/address-space.js';
import { MappingLedger } from '../../memory/ledger.js';
import type { Region } from '../../memory/region.js';
import { bar2Bytes, doorbellStride } from '../../spec/limits.js';
import type { FunctionSnapshot } from '../../spec/snapshot.js';
import type { Bus, MapRequest } from '../bus.js';
import { checkRange } from '../checks.js';
import type { Snapshotting } from '../snapshot.js';
import { Channel, Life, Op, OWN, TEXT_BYTES } from './channel.js';
import { EmbeddedClient, type EmbeddedShare } from './client.js';
import type { EngineData } from './engine.js';
import { type MapNumbers, mapNumbers } from './engine-memory.js';
import { type Member, type Place, reservePlace } from './fabric/hub.js';
import type { MemberShare } from './fabric/member.js';
import { type EmbeddedOptions, embeddedSettings, faultsWhileOpen, memberUri } from './options.js';
import { ready } from './ready.js';
import { receiveSnapshot, sendSnapshot } from './snapshot-transfer.js';

/** How long close() asks before it forces. */
const CLOSE_MS = 2000;

/** The built engine (scripts/setup.mjs): Node 20 starts no thread from a TypeScript source, so sources (tests) take it from dist/. */
export function engineEntry(): URL {
  const built = import.meta.url.replace(/\/src\/bus\/embedded\/[^/]+\.ts$/, '/dist/bus/embedded/embedded.js');
  return new URL('./engine-thread.js', built);
}

interface Held {
  readonly numbers: MapNumbers;
  readonly region: Region;
}

/** What a bus has besides its channel. */
interface Ties {
  /** Its place in a fabric, if it has one. */
  place?: Place;
  /** Of a virtual function: the bus that the thread belongs to. */
  physical?: EmbeddedBus;
}

/** A function in this process, on a thread of its own; or a virtual one, on the thread of its physical function. */
export class EmbeddedBus extends EmbeddedClient implements Bus, Snapshotting {
  private readonly worker: Worker;
  readonly virtualFunctions: readonly EmbeddedBus[];
  /** Resolves when the thread is gone. */
  private readonly ended: Promise<void>;
  /** Keeps mapped memory alive for as long as the engine may touch it. */
  private readonly held = new MappingLedger<Held>();
  /** As it was opened. */
  private readonly faults: FaultPlan;
  /** Its place in a fabric, if it has one. */
  private readonly place?: Place;
  private readonly physical?: EmbeddedBus;
  /** Nobody else has the physical function: it ends with this one. */
  private alone = false;
  private closing?: Promise<void>;

  private constructor(
    share: EmbeddedShare,
    worker: Worker,
    faults: FaultPlan,
    { place, physical }: Ties = {},
    virtual: readonly EmbeddedShare[] = [],
  ) {
    super(share);
    this.faults = faults;
    this.worker = worker;
    this.place = place;
    this.physical = physical;
    this.virtualFunctions = virtual.map((one) => new EmbeddedBus(one, worker, faults, { physical: this }));
    if (physical) {
      this.ended = physical.ended;
      return;
    }
    this.ended = new Promise((resolve) => {
      worker.once('exit', (code) => {
        for (const { channel } of [this, ...this.virtualFunctions]) channel.fail(`its thread ended with code ${code}`);
        place?.hub.leave(place);
        resolve();
      });
    });
    // The reason is in the channel already, unless the engine never got so far; the exit event follows in any case.
    worker.on('error', (error) => this.channel.fail(String(error)));
    worker.unref();
  }

  /**
   * Starts the function. The process may end while it is idle; see {@link ref}.
   * @throws SdxiError ERR_SDXI_URI, ArgumentError for options, SdxiError ERR_SDXI_SYSTEM when the thread does not start
   */
  static async open(uri: string, options: EmbeddedOptions = {}): Promise<EmbeddedBus> {
    const { config, vectors, registerTimeoutMs, startTimeoutMs, fabric, vf, faults, engine } = embeddedSettings(uri, options);
    const shape = { maxContext: config.maxContext, vectors };
    const { buffer } = new Channel(shape);
    const virtual = Array.from({ length: config.vfs }, () => new Channel(shape).buffer);
    const place = fabric === undefined ? undefined : reservePlace(fabric, config);
    try {
      // None of the parent's flags: loaders and inspectors are not for the engine.
      const worker = new Worker(engine ?? engineEntry(), {
        workerData: {
          buffer,
          shape,
          config,
          virtual,
          vf: vf ?? 0,
          faults: faults.text,
          fabric: place && { board: place.board, index: place.index },
        } satisfies EngineData,
        execArgv: [],
        name: 'sdxi engine',
      });
      const { counterNames } = await ready(worker, startTimeoutMs);
      const stride = doorbellStride(config.dbStride);
      const doorbellBytes = bar2Bytes(config.maxContext, config.dbStride);
      const common = { ...shape, stride, doorbellBytes, registerTimeoutMs, counterNames };
      const shares = virtual.map((own, i) => ({ ...common, uri: memberUri(uri, i + 1), buffer: own, primary: { ...shape, buffer } }));
      const bus = new EmbeddedBus({ ...common, uri: memberUri(uri, 0), buffer }, worker, faults, { place }, shares);
      await bus.enter(config.cache !== 'none');
      return vf === undefined ? bus : bus.leaveTo(vf);
    } catch (error) {
      place?.hub.leave(place);
      throw error;
    }
  }

  map(request: MapRequest): void {
    this.check();
    const numbers = mapNumbers(request);
    const { region } = request;
    const hold = () => this.held.add(numbers.pasid, numbers.iova, numbers.byteLength, { numbers, region });
    try {
      this.requestMap(OWN, numbers);
    } catch (error) {
      // Without an answer the engine may have mapped it all the same: the memory stays until the thread is gone.
      if (error instanceof BusLostError || error instanceof ClosedError) hold();
      throw error;
    }
    try {
      this.place?.hub.map(this.place, numbers, region);
    } catch (error) {
      try {
        this.requestUnmap(OWN, numbers);
      } catch {
        hold(); // the engine is gone, or going, and may still reach it
      }
      throw error;
    }
    hold();
  }

  unmap(iova: number, byteLength: number, pasid = NO_PASID): void {
    this.check();
    checkRange(iova, byteLength);
    const mappings = this.held.inside(pasid, iova, byteLength);
    if (mappings.length === 0) return;
    if (this.place) for (const { note } of mappings) this.place.hub.unmap(this.place, note.numbers, note.region);
    this.requestUnmap(OWN, { iova, byteLength, pasid });
    for (const mapping of mappings) this.held.delete(pasid, mapping.iova);
  }

  private requestMap(owner: number, numbers: MapNumbers): void {
    const { channel } = this;
    this.acquire();
    try {
      channel.numbers.set([numbers.regionAddress, numbers.regionBytes, numbers.offset, numbers.byteLength, numbers.iova]);
      channel.status = numbers.access;
      channel.pasid = numbers.pasid;
      channel.owner = owner;
      this.request(Op.MAP);
      this.checkStatus();
    } finally {
      this.release();
    }
  }

  private requestUnmap(owner: number, { iova, byteLength, pasid }: Pick<MapNumbers, 'iova' | 'byteLength' | 'pasid'>): void {
    const { channel } = this;
    this.acquire();
    try {
      channel.numbers[3] = byteLength;
      channel.numbers[4] = iova;
      channel.pasid = pasid;
      channel.owner = owner;
      this.request(Op.UNMAP);
      this.checkStatus();
    } finally {
      this.release();
    }
  }

  /** Takes its place among the members of its fabric; gone again when that fails. */
  private async enter(caches: boolean): Promise<void> {
    const { place } = this;
    if (!place) return;
    try {
      place.hub.enter(place, this.member(place.index, caches));
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** What its fabric asks of it. */
  private member(index: number, caches: boolean): Member {
    const { buffer, shape } = this.channel;
    const { held, worker, ended } = this;
    const kept = new Set<Region>();
    void ended.then(() => kept.clear());
    return {
      share: { index, buffer, shape, caches },
      *mappings() {
        for (const { note } of held.all()) yield note;
      },
      meet: (other: MemberShare) => {
        this.acquire();
        try {
          worker.postMessage(other);
          this.request(Op.MEET);
        } finally {
          this.release();
        }
      },
      part: (other: number) => {
        this.acquire();
        try {
          this.channel.numbers[0] = other;
          this.request(Op.PART);
        } finally {
          this.release();
        }
      },
      mapOf: (other, numbers) => this.requestMap(other, numbers),
      unmapOf: (other, numbers) => this.requestUnmap(other, numbers),
      keep: (region) => kept.add(region),
    };
  }

  /** Function-level reset (S-46, S-107). Vectors are as after opening: unmasked, nothing pending. */
  reset(): void {
    this.acquire();
    try {
      this.request(Op.RESET);
    } finally {
      this.release();
    }
  }

  /**
   * Puts a fault plan in force from now on, in place of the one before; '' ends it. What that one held back happens now.
   * @throws ArgumentError for a plan that cannot be read, SdxiError ERR_SDXI_STATE for a fault that needs another function
   */
  setFaults(text: string): void {
    const { channel } = this;
    const plan = faultsWhileOpen(text, this.faults);
    if (Buffer.byteLength(plan.text) > TEXT_BYTES)
      throw new ArgumentError(`a fault plan has at most ${TEXT_BYTES} bytes`, { hint: 'plan less' });
    this.acquire();
    try {
      channel.status = channel.writeText(plan.text);
      this.request(Op.FAULTS);
      this.checkStatus();
    } finally {
      this.release();
    }
  }

  /** @see Snapshotting.snapshot */
  snapshot(): FunctionSnapshot {
    return this.transfer((request) => receiveSnapshot(this.channel, request));
  }

  /** @see Snapshotting.restore */
  restore(snapshot: FunctionSnapshot): void {
    this.transfer((request) => sendSnapshot(this.channel, snapshot, request));
  }

  /** Several requests in a row, with the slot held. */
  private transfer<T>(action: (request: (op: Op) => void) => T): T {
    this.acquire();
    try {
      return action((op) => {
        this.request(op);
        this.checkStatus();
      });
    } finally {
      this.release();
    }
  }

  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  /** The bus of a virtual function for somebody who does not get this one. */
  private leaveTo(vf: number): EmbeddedBus {
    const bus = this.virtualFunctions[vf - 1];
    bus.alone = true;
    return bus;
  }

  private async end(): Promise<void> {
    if (this.physical) {
      await this.endVirtual(this.physical);
      return;
    }
    for (const { channel } of this.virtualFunctions) channel.setLife(Life.CLOSED);
    this.channel.setLife(Life.CLOSED);
    // Whoever awaits close() wants it to finish, even if nothing else keeps the process alive.
    this.worker.ref();
    const force = setTimeout(() => void this.worker.terminate(), CLOSE_MS);
    await this.ended;
    clearTimeout(force);
    for (const { held } of [this, ...this.virtualFunctions]) held.clear();
  }

  /** The thread goes on: the function is reset, and reaches no memory any more. */
  private async endVirtual(physical: EmbeddedBus): Promise<void> {
    try {
      this.reset();
      for (const { note } of this.held.all()) this.requestUnmap(OWN, note.numbers);
      this.held.clear();
    } catch (error) {
      // What is still mapped is held until the thread is gone.
      if (!(error instanceof BusLostError || error instanceof ClosedError)) throw error;
    } finally {
      this.channel.setLife(Life.CLOSED);
      if (this.alone) await physical.close();
    }
  }

  /** Ends the engine thread without asking it, as a crash would: for tests of what happens then. @internal */
  async terminate(): Promise<void> {
    // Work in flight that ends meanwhile would let the process end too.
    const keeper = setInterval(() => {}, 1000);
    await this.worker.terminate();
    clearInterval(keeper);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected override keepAlive(on: boolean): void {
    const { physical } = this;
    if (physical) on ? physical.ref() : physical.unref();
    else if (on) this.worker.ref();
    else if (!this.closing) this.worker.unref();
  }
}
