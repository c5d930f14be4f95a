/**
 * The thread of a served function: the function, its client's connection, and the loop between the two. Entry of a worker; its
 * `workerData` is {@link ThreadData}.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { FaultPlan } from '../fault/index.js';
import type { FunctionConfig } from '../function/config.js';
import { drainEventfd } from '../native/eventfd.js';
import { closeFd } from '../native/libc.js';
import { acceptFrom, Poll, Poller, peerProcess } from '../native/socket.js';
import type { PciIdentity } from '../pci/index.js';
import { doorbellStride } from '../spec/limits.js';
import { CommandTable } from './commands.js';
import { Device } from './device.js';
import { Doorbells } from './doorbells.js';
import { GroupMember, type GroupShare } from './group.js';
import { GuestMemory } from './guest-memory.js';
import { ClientInterrupts } from './interrupts.js';
import { Life } from './life.js';
import { Room, type ServeLimits } from './limits.js';
import { ThreadLog } from './log.js';
import type { DmaPort } from './message-memory.js';
import { Migration } from './migration.js';
import type { ThreadNews } from './news.js';
import { Session, type SessionHost } from './session.js';
import { ServedTrace } from './trace.js';

export interface ThreadData {
  readonly name: string;
  readonly config: FunctionConfig;
  readonly vectors: number;
  readonly identity: Partial<PciIdentity>;
  readonly faults: string;
  readonly allowShrinkable: boolean;
  readonly mapDoorbells: boolean;
  /** That are served by this process. */
  readonly functions: number;
  readonly limits: ServeLimits;
  /** Listens on the function's socket. */
  readonly listenFd: number;
  /** Wakes this thread: it is to stop, or another of the group has an interrupt for it. */
  readonly wakeFd: number;
  /** A word of {@link Life}. */
  readonly life: SharedArrayBuffer;
  readonly group?: GroupShare;
  /** File that the trace is appended to. */
  readonly trace?: string;
}

/** Turns between two looks at the socket: a few µs of small descriptors; large ones end a step by their bytes (S-45). */
const TURNS_PER_LOOK = 64;
/** A thread with nothing to do looks at its socket for so long before it sleeps. */
const SPIN_MS = 0.03;
/** A busy thread looks for newcomers this often. */
const BUSY_LOOPS = 256;
/** And looks around by itself at this pace. */
const SLEEP_MS = 1000;
/** A file in which nothing lies any more is let go after so long a silence. */
const TIDY_MS = 5;
/** While something may change without a message: a slot that is looked at without a doorbell, mapped doorbells, a fault's clock. */
const POLL_MS = 1;

class ServedFunction {
  private readonly data: ThreadData;
  private readonly life: Int32Array;
  private readonly log: ThreadLog;
  private readonly memory: GuestMemory;
  private readonly device: Device;
  private readonly interrupts: ClientInterrupts;
  private readonly migration: Migration;
  private readonly doorbells: Doorbells | undefined;
  private readonly host: SessionHost;
  private readonly group: GroupMember | undefined;
  private readonly trace: ServedTrace | undefined;
  private readonly poller = new Poller(3);
  private session: Session | undefined;
  /** The client has looked at the device: before that a function that was left running must not find its memory gone. */
  private awake = false;
  private readonly ring: (context: number, value: number) => void;

  constructor(data: ThreadData) {
    const { config, vectors, identity, faults, name } = data;
    this.data = data;
    this.life = new Int32Array(data.life);
    this.log = new ThreadLog(name, data.limits.logLines, (line) => this.tell({ kind: 'log', line }));
    const log = (line: string) => this.log.line(line);
    this.trace = data.trace === undefined ? undefined : new ServedTrace(data.trace, name, (why) => log(`the trace has ended: ${why}`));
    this.group = data.group && new GroupMember(data.group, log);
    const { group, trace } = this;
    const dma: DmaPort = {
      read: (address, into) => this.session?.read(address, into) ?? false,
      write: (address, bytes) => this.session?.write(address, bytes) ?? false,
      post: (address, bytes) => this.session?.post(address, bytes),
      settle: () => this.session?.settle(),
      endStep: () => this.session?.endStep(),
    };
    this.memory = new GuestMemory({ allowShrinkable: data.allowShrinkable, room: new Room(data.functions) }, dma, {
      mapped: (held) => {
        trace?.events.map(held.address, held.byteLength, held.access);
        group?.mapped(held);
      },
      unmapped: (held) => {
        trace?.events.unmap(held.address, held.byteLength);
        group?.unmapped(held);
      },
    });
    this.device = new Device(
      { config, vectors, identity },
      {
        memory: this.memory.spaces,
        fabric: group?.fabric,
        tracer: trace?.tracer,
        deliver: (vector) => this.interrupts.deliver(vector),
        beforeInterrupt: () => this.memory.deliver(),
        blocked: (on) => group?.blocked(on),
        functionLevelReset: () => trace?.events.flr(),
      },
    );
    this.interrupts = new ClientInterrupts(this.device.pci, vectors);
    this.migration = new Migration(this.device, this.memory, group);
    const stride = doorbellStride(config.dbStride);
    this.doorbells = data.mapDoorbells ? new Doorbells(this.device.regionBytes(2), stride, config.maxContext + 1) : undefined;
    const plan = new FaultPlan(faults);
    if (plan.active) this.device.fn.setFaults(plan);
    this.ring = (context, value) => this.device.fn.ringDoorbell(context, value);
    this.host = {
      commands: new CommandTable({
        device: this.device,
        memory: this.memory,
        interrupts: this.interrupts,
        migration: this.migration,
        doorbells: this.doorbells,
        touched: () => {
          this.awake = true;
        },
        reset: () => this.reset(),
      }),
      beforeAnswer: () => this.memory.flush(),
      log,
      wakeFd: data.wakeFd,
      // Others of the group wait for the end of a step when they take memory back.
      limits: group === undefined ? data.limits : { ...data.limits, dmaMs: Math.min(data.limits.dmaMs, data.limits.dmaBlockedMs) },
      stopping: () => this.stopping,
    };
  }

  private tell(news: ThreadNews): void {
    parentPort?.postMessage(news);
  }

  private get stopping(): boolean {
    return Atomics.load(this.life, 0) >= Life.STOPPING;
  }

  run(): void {
    this.tell({ kind: 'ready' });
    let busy = 0;
    while (!this.stopping) {
      const turns = this.step();
      const messages = this.pump();
      if (turns === 0 && messages === 0) this.idle();
      else if (++busy % BUSY_LOOPS === 0) {
        this.lookAround(0, 0);
        this.memory.tidy();
      }
    }
  }

  /** @returns turns that the function has run */
  private step(): number {
    const { fabric } = this.group ?? {};
    fabric?.begin();
    this.group?.interrupts((vector) => this.device.pci.raise(vector));
    const rung = this.doorbells?.look(this.ring) ?? 0;
    let turns = 0;
    if (this.session !== undefined && this.awake && !this.migration.stopped) {
      turns = this.device.fn.step(this.memory.byMessages ? 1 : TURNS_PER_LOOK);
      this.memory.endStep();
    }
    fabric?.end();
    fabric?.publish();
    return turns + rung;
  }

  /** @returns messages that were handled */
  private pump(): number {
    const { session } = this;
    if (session === undefined) return 0;
    const messages = session.pump();
    this.group?.fabric.publish();
    if (!session.open) this.leave(session);
    return messages;
  }

  private idle(): void {
    const { session } = this;
    if (session !== undefined) {
      const until = performance.now() + SPIN_MS;
      do if (session.pump() > 0) return;
      while (session.open && performance.now() < until);
      if (!session.open) {
        this.leave(session);
        return;
      }
    }
    this.trace?.flush();
    const wanted = session?.wanted ?? 0;
    const { untidy } = this.memory;
    const timeout = this.polls ? POLL_MS : untidy ? TIDY_MS : SLEEP_MS;
    if (!this.lookAround(wanted, timeout) && untidy) this.memory.tidy();
  }

  /** Waits for somebody who wants something: the client, with `wanted` events; who starts and ends this thread; a newcomer. */
  private lookAround(wanted: number, forMs: number): boolean {
    const { session, poller, data } = this;
    poller.set([data.wakeFd, Poll.IN], [data.listenFd, Poll.IN], [wanted === 0 ? -1 : (session?.connection.fd ?? -1), wanted]);
    const ready = poller.wait(forMs) !== 0;
    if (poller.found(0) !== 0) drainEventfd(data.wakeFd);
    if ((poller.found(1) & Poll.IN) !== 0) this.accept();
    return ready;
  }

  private get polls(): boolean {
    return this.session !== undefined && this.awake && (this.doorbells !== undefined || this.device.fn.polls);
  }

  /** Somebody has connected. One client at a time: who comes second is turned away, unless the first is gone. */
  private accept(): void {
    const fd = acceptFrom(this.data.listenFd);
    if (fd < 0) {
      this.log.line(`a client could not be taken (errno ${-fd})`);
      return;
    }
    if (this.session?.open) this.pump(); // its end may lie in the socket
    if (this.session?.open) {
      closeFd(fd);
      this.log.line('a second client was turned away: a function has one at a time');
      return;
    }
    this.session = new Session(fd, this.host);
    this.awake = false;
    const pid = peerProcess(fd);
    this.log.line(`a client has connected${pid > 0 ? ` (process ${pid})` : ''}`);
  }

  /** The client is gone: its memory and its interrupts are given up, the function stays as it is, and stands still. */
  private leave(session: Session): void {
    session.close();
    this.session = undefined;
    this.awake = false;
    this.interrupts.clear();
    this.migration.clientGone();
    this.memory.clear();
    this.doorbells?.renew();
    this.trace?.flush();
    const { ending, handled } = session;
    this.log.line(`the client is gone${ending === '' ? '' : `: ${ending}`} (${handled} messages)`);
  }

  private reset(): void {
    this.trace?.events.flr();
    this.migration.reset();
    this.device.reset();
  }

  close(): void {
    if (this.session) this.leave(this.session);
    this.device.fn.disconnect();
    this.doorbells?.close();
    this.trace?.close();
  }
}

const data = workerData as ThreadData;
const life = new Int32Array(data.life);
const served = new ServedFunction(data);
Atomics.compareExchange(life, 0, Life.STARTING, Life.RUNNING);
try {
  served.run();
} finally {
  Atomics.store(life, 0, Life.GONE);
  served.close();
}
