/**
 * The engine thread: one function, or a physical one with its virtual ones, their memory, and the loop that serves them. Entry of a worker; its `workerData` is {@link EngineData}.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { SdxiError } from '../../errors.js';
import { Board } from '../../fabric/board.js';
import { ThreadFabric } from '../../fabric/thread-fabric.js';
import { FaultPlan } from '../../fault/index.js';
import type { FunctionConfig } from '../../function/config.js';
import { SdxiFunction } from '../../function/function.js';
import type { FunctionPorts } from '../../function/ports.js';
import { CAN_SPIN, relax } from '../../memory/spin.js';
import { stoppedOnly } from '../snapshot.js';
import { Channel, type ChannelShape, COUNTERS_MAX, Life, Op, OWN, TEXT_BYTES } from './channel.js';
import { EngineMemory } from './engine-memory.js';
import { EmbeddedMember, type MemberShare } from './fabric/member.js';
import { SnapshotTransfer } from './snapshot-transfer.js';

/** What the engine is started with. */
export interface EngineData {
  readonly buffer: SharedArrayBuffer;
  readonly shape: ChannelShape;
  readonly config: FunctionConfig;
  /** Channels of the virtual functions, which have the same shape. */
  readonly virtual: readonly SharedArrayBuffer[];
  /** The function that its URI names: 0, or a virtual one. */
  readonly vf: number;
  /** Fault plan of that function from the start; '' for none. */
  readonly faults: string;
  /** Its place in a fabric, if it has one. */
  readonly fabric?: { readonly board: SharedArrayBuffer; readonly index: number };
}

/** What the engine says when it is ready. */
export interface EngineReady {
  readonly counterNames: string[];
}

/** Most turns between two looks at the channel: a few µs of small descriptors. Large ones end a step by their bytes (S-45). */
const TURNS_PER_LOOK = 64;
/** An idle engine spins so long before it sleeps. */
const IDLE_SPIN_MS = 0.02;
/** A sleeping engine looks around by itself at this pace, though nobody should count on it. */
const SLEEP_MS = 1000;
/** And at this pace while a slot has to be looked at without a doorbell (option `pollInvalid`): short for a producer, and next to no load. */
const POLL_MS = 1;
/** Loops between two publications of the counters while there is work. */
const PUBLISH_LOOPS = 1024;

/** What the engine has of each function, before there is one. */
interface End {
  readonly channel: Channel;
  readonly memory: EngineMemory;
}

function portsOf({ channel, memory }: End): FunctionPorts {
  return { memory: memory.spaces, interrupts: channel.interrupts };
}

class Engine {
  readonly channel: Channel;
  readonly counterNames: (keyof SdxiFunction['counters'])[];
  private readonly memory: EngineMemory;
  private readonly fn: SdxiFunction;
  private readonly transfer = new SnapshotTransfer();
  private readonly fabric: ThreadFabric | undefined;
  private readonly members = new Map<number, EmbeddedMember>();
  private readonly ring: (context: number, value: number) => void;
  /** Those of the virtual functions, whose loop this one runs. */
  private readonly virtual: readonly Engine[];

  static make({ buffer, shape, config, virtual, vf, faults, fabric: place }: EngineData): Engine {
    const end = { channel: new Channel(shape, buffer), memory: new EngineMemory() };
    const fabric = place && new ThreadFabric(new Board(place.board), place.index);
    const ends = virtual.map((own) => ({ channel: new Channel(shape, own, end.channel), memory: new EngineMemory() }));
    const fn = new SdxiFunction(config, { ...portsOf(end), fabric, virtual: (number) => portsOf(ends[number - 1]) });
    const engines = fn.virtualFunctions.map((vf, i) => new Engine(ends[i], vf));
    const engine = new Engine(end, fn, engines, fabric);
    [engine, ...engines][vf].setFaults(faults);
    return engine;
  }

  private constructor({ channel, memory }: End, fn: SdxiFunction, virtual: readonly Engine[] = [], fabric?: ThreadFabric) {
    this.channel = channel;
    this.memory = memory;
    this.fn = fn;
    this.virtual = virtual;
    this.fabric = fabric;
    this.counterNames = (Object.keys(fn.counters) as (keyof SdxiFunction['counters'])[]).slice(0, COUNTERS_MAX);
    this.ring = (context, value) => fn.ringDoorbell(context, value);
  }

  /** Its users may come. */
  begin(): void {
    for (const { channel } of [this, ...this.virtual]) channel.setLife(Life.RUNNING);
  }

  /** Nobody is served any more: what has become of the function has become of its virtual ones. */
  end(): void {
    const { life, reason } = this.channel;
    for (const { channel } of this.virtual) {
      if (life === Life.LOST) channel.fail(reason);
      else channel.setLife(Life.CLOSED);
    }
  }

  /** Serves until the channel says that it is over. */
  run(): void {
    const { channel, fn, fabric } = this;
    const virtual = this.virtual.length > 0;
    let untilPublish = PUBLISH_LOOPS;
    while (channel.life === Life.RUNNING) {
      if (channel.called && channel.take(this.ring)) this.serve();
      fabric?.begin();
      let turns = fn.step(TURNS_PER_LOOK);
      fabric?.end();
      if (virtual) turns += this.stepVirtual();
      if (turns === 0) this.idle();
      if (--untilPublish === 0) {
        this.publish();
        untilPublish = PUBLISH_LOOPS;
      }
    }
    this.publish();
  }

  /** The virtual functions get their turns, as many each as the physical one. */
  private stepVirtual(): number {
    const { channel, virtual } = this;
    const called = channel.virtualCalled;
    channel.virtualCalled = false;
    let turns = 0;
    for (const engine of virtual) {
      if (called && engine.channel.called && engine.channel.take(engine.ring)) engine.serve();
      turns += engine.fn.step(TURNS_PER_LOOK);
    }
    return turns;
  }

  /** Nothing to do until someone calls. */
  private idle(): void {
    const { channel } = this;
    if (CAN_SPIN) {
      const until = performance.now() + IDLE_SPIN_MS;
      do {
        for (let look = 0; look < 32; look++) {
          if (channel.calledNow) return;
          relax();
        }
      } while (performance.now() < until);
    }
    this.publish();
    channel.sleep(this.polls ? POLL_MS : SLEEP_MS);
    channel.virtualCalled = true; // Nobody should count on a look after that time, yet it costs nothing.
  }

  private get polls(): boolean {
    return this.fn.polls || this.virtual.some(({ fn }) => fn.polls);
  }

  private publish(): void {
    for (const engine of this.virtual) engine.publish();
    const { counters } = this.fn;
    for (let i = 0; i < this.counterNames.length; i++) this.channel.counters[i] = counters[this.counterNames[i]];
  }

  private serve(): void {
    const { channel, fn } = this;
    const first = channel.numbers[0];
    let status = 0;
    switch (channel.op) {
      case Op.READ:
        channel.value[0] = fn.readRegister(first, 8);
        break;
      case Op.WRITE:
        fn.writeRegister(first, 8, channel.value[0]);
        break;
      case Op.DOORBELL:
        fn.writeDoorbell(first, 8, channel.value[0]);
        break;
      case Op.MAP:
        status = this.try(() => this.map());
        break;
      case Op.UNMAP:
        status = this.try(() => this.memoryAt(channel.owner).unmap(channel.numbers[4], channel.numbers[3], channel.pasid));
        break;
      case Op.RESET:
        fn.reset();
        for (const engine of [this, ...this.virtual]) engine.channel.interrupts.reset();
        break;
      case Op.PUBLISH:
        this.publish();
        break;
      case Op.MEET:
        this.meet(receiveMessageOnPort(parentPort as MessagePort)?.message as MemberShare);
        break;
      case Op.FAULTS:
        status = this.try(() => this.setFaults(channel.readText(channel.status)));
        break;
      case Op.PART:
        this.part(first);
        break;
      case Op.SNAPSHOT:
        status = this.try(() => this.transfer.send(channel, () => fn.snapshot()));
        break;
      case Op.RESTORE:
        status = this.try(() => this.transfer.receive(channel, (snapshot) => fn.restore(stoppedOnly(snapshot))));
        break;
      default:
        throw new RangeError(`there is no operation ${channel.op}`);
    }
    this.fabric?.publish();
    channel.status = status;
    channel.answer();
  }

  private map(): void {
    const { channel } = this;
    const [regionAddress, regionBytes, offset, byteLength, iova] = channel.numbers;
    this.memoryAt(channel.owner).map({
      regionAddress,
      regionBytes,
      offset,
      byteLength,
      iova,
      access: channel.status,
      pasid: channel.pasid,
    });
  }

  private meet(share: MemberShare): void {
    const member = new EmbeddedMember(share);
    this.members.set(share.index, member);
    this.fabric?.meet(member);
  }

  private part(index: number): void {
    this.members.delete(index);
    this.fabric?.part(index);
  }

  private setFaults(text: string): void {
    const plan = new FaultPlan(text);
    this.fn.setFaults(plan.active ? plan : undefined);
  }

  /** Memory of this function, or of another one of its fabric. */
  private memoryAt(owner: number): EngineMemory {
    if (owner === OWN || this.fabric === undefined) return this.memory;
    const member = this.members.get(owner);
    if (member === undefined) throw new RangeError(`there is no member ${owner} in this fabric`);
    return member.mappings;
  }

  /** Runs what may be refused. @returns the status: 0, or the bytes of the error's description in the channel's text */
  private try(action: () => void): number {
    try {
      action();
      return 0;
    } catch (error) {
      const { code, message, hint, fields } =
        error instanceof SdxiError ? error : ({ code: 'ERR_SDXI_MAPPING', message: String(error) } as SdxiError);
      const text = (some: unknown) =>
        JSON.stringify({ code, message: message.slice(0, 500), hint: hint?.slice(0, 500), fields: some }, (_key, value) =>
          typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
        );
      const whole = text(fields);
      // Cut short it would be no JSON.
      return this.channel.writeText(Buffer.byteLength(whole) <= TEXT_BYTES ? whole : text(undefined));
    }
  }
}

const engine = Engine.make(workerData as EngineData);
engine.begin();
parentPort?.postMessage({ counterNames: engine.counterNames } satisfies EngineReady);
try {
  engine.run();
} catch (error) {
  engine.channel.fail(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  throw error;
} finally {
  engine.end();
}
