import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { ArgumentError, SdxiError } from '../errors.js';
import { Board } from '../fabric/board.js';
import { FaultPlan } from '../fault/index.js';
import { type FunctionConfig, functionConfig } from '../function/config.js';
import { createEventfd, signalEventfd } from '../native/eventfd.js';
import { closeFd } from '../native/libc.js';
import type { PciIdentity } from '../pci/index.js';
import { VECTORS_MAX } from '../spec/limits.js';
import type { ThreadData } from './device-thread.js';
import { type GroupShare, groupWords, type OtherShare } from './group.js';
import { Life } from './life.js';
import { SERVE_LIMITS, type ServeLimits } from './limits.js';
import type { ThreadNews } from './news.js';
import { type ListeningSocket, listenOn, stopListening } from './sockets.js';
import { checkTrace } from './trace.js';

/** What {@link serve} takes. */
export interface ServeOptions {
  /** Path of the socket; with several functions those of the sockets are `PATH.0`, `PATH.1`, … */
  readonly socket: string;
  /** 1 … 64, each on a thread and a socket of its own; default 1. */
  readonly functions?: number;
  /** Capabilities and choices, as far as they differ from the default. `groupId` is the group of all, `sfunc` the handle of the first. */
  readonly config?: Partial<FunctionConfig>;
  /** Interrupt vectors, 2 … 2048; default one per context and two more (ref §9). */
  readonly vectors?: number;
  /** PCI ids and serial number. */
  readonly identity?: Partial<PciIdentity>;
  /** Fault plan of every function: `F-1:every=10;F-44`. */
  readonly faults?: string;
  /** File that one JSON line is appended to for each thing that happens; with several functions one file, each line names its function. */
  readonly trace?: string;
  /**
   * Memory of clients may lie in files that can be made shorter. Whoever does that ends this process (SIGBUS): for trusted clients whose
   * memory cannot be sealed.
   */
  readonly allowShrinkableMemory?: boolean;
  /** Clients may map the doorbells: no message for each, but the function has to look for them, and wakes up 1,000 times a second. */
  readonly mapDoorbells?: boolean;
  /** Limits that differ from the default. */
  readonly limits?: Partial<ServeLimits>;
  /** Lines for people: clients that come and go, requests that were refused. */
  readonly onLog?: (line: string) => void;
}

export const FUNCTIONS_MAX = 64;
const START_MS = 20_000;
const STOP_MS = 5000;

/** The built thread (scripts/setup.mjs), as that of the embedded bus. */
function threadEntry(): URL {
  const built = import.meta.url.replace(/\/src\/serve\/[^/]+\.ts$/, '/dist/serve/server.js');
  return new URL('./served-thread.js', built);
}

interface Place {
  readonly socket: ListeningSocket;
  readonly wakeFd: number;
  readonly life: SharedArrayBuffer;
  readonly config: FunctionConfig;
  worker?: Worker;
  /** Nobody listens on its socket any more. */
  deaf?: true;
  ended?: Promise<void>;
}

/** Served functions, until they are closed. */
export class Server {
  /** Paths of the sockets. */
  readonly sockets: readonly string[];
  private readonly places: readonly Place[];
  private closing?: Promise<void>;

  constructor(places: readonly Place[]) {
    this.places = places;
    this.sockets = places.map(({ socket }) => socket.path);
  }

  /** Resolves when all threads have ended, whether they were asked to or not. */
  get ended(): Promise<void> {
    return Promise.all(this.places.map(({ ended }) => ended)).then(() => undefined);
  }

  /** @internal The thread has ended: nobody is to wait at its socket for a function that is gone. */
  gone(place: Place): void {
    if (place.deaf) return;
    place.deaf = true;
    stopListening(place.socket);
  }

  /** Ends the connections, stops the threads, removes the sockets. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    for (const { life, wakeFd } of this.places) {
      const word = new Int32Array(life);
      Atomics.compareExchange(word, 0, Life.RUNNING, Life.STOPPING);
      Atomics.compareExchange(word, 0, Life.STARTING, Life.STOPPING);
      signalEventfd(wakeFd);
    }
    let late: NodeJS.Timeout | undefined;
    const timeout = new Promise<'late'>((resolve) => {
      late = setTimeout(() => resolve('late'), STOP_MS);
    });
    const result = await Promise.race([this.ended, timeout]);
    clearTimeout(late);
    for (const place of this.places) {
      this.gone(place);
      if (result !== 'late') closeFd(place.wakeFd);
    }
    if (result === 'late') {
      throw new SdxiError('ERR_SDXI_SYSTEM', `a function did not stop within ${STOP_MS} ms`, {
        hint: 'it hangs in a system call; the process has to be killed',
      });
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function settings(options: ServeOptions): { configs: FunctionConfig[]; vectors: number } {
  const { functions = 1, config, vectors, faults = '' } = options;
  if (!Number.isInteger(functions) || functions < 1 || functions > FUNCTIONS_MAX) {
    throw new ArgumentError(`cannot serve ${String(functions)} functions`, { hint: `1 … ${FUNCTIONS_MAX}` });
  }
  const plan = new FaultPlan(faults);
  const first = functionConfig({ ...plan.config, ...config });
  if (first.vfs > 0) {
    throw new ArgumentError('virtual functions are not served: the PCI function has no SR-IOV capability', {
      hint: 'leave out vfs, or serve several functions of a group (functions, groupId)',
    });
  }
  const count = vectors ?? plan.vectors ?? Math.min(first.maxContext + 3, VECTORS_MAX);
  if (!Number.isInteger(count) || count < 2 || count > VECTORS_MAX) {
    throw new ArgumentError(`a function cannot have ${String(count)} vectors`, { hint: `2 … ${VECTORS_MAX}` });
  }
  const configs = Array.from({ length: functions }, (_, i) => functionConfig({ ...first, sfunc: first.sfunc + i }));
  return { configs, vectors: count };
}

function groupShares(places: readonly Place[], vectors: number): GroupShare[] | undefined {
  if (places.length === 1) return undefined;
  const board = new Board();
  places.forEach(({ config }, i) => {
    board.clear(i, config.sfunc, config.groupId);
  });
  const words = groupWords(places.length);
  const others: OtherShare[][] = places.map(() => []);
  const end = (index: number, port: MessagePort): OtherShare => {
    const { config, wakeFd, life } = places[index];
    return { index, port, vectors, caches: config.cache !== 'none', wakeFd, life };
  };
  for (let a = 0; a < places.length; a++) {
    for (let b = a + 1; b < places.length; b++) {
      const { port1, port2 } = new MessageChannel();
      others[a].push(end(b, port1));
      others[b].push(end(a, port2));
    }
  }
  return places.map((_, index) => ({ board: board.buffer, words, index, others: others[index] }));
}

/**
 * Serves SDXI functions over vfio-user, one on each socket: to QEMU (`-device vfio-user-pci`), to this package's `vfio-user:` bus, or to
 * any other client. A function outlives its clients: who comes next finds it as it was left.
 * @throws ArgumentError for options; SdxiError ERR_SDXI_BUSY when a socket is in use; SystemError
 */
export async function serve(options: ServeOptions): Promise<Server> {
  const { configs, vectors } = settings(options);
  const { socket, identity = {}, faults = '', allowShrinkableMemory = false, mapDoorbells = false, trace, onLog = () => {} } = options;
  const limits = { ...SERVE_LIMITS, ...options.limits };
  if (trace !== undefined) checkTrace(trace);
  const places: Place[] = [];
  try {
    configs.forEach((config, i) => {
      const listening = listenOn(configs.length === 1 ? socket : `${socket}.${i}`);
      places.push({ socket: listening, wakeFd: createEventfd(), life: new SharedArrayBuffer(4), config });
    });
  } catch (error) {
    for (const place of places) {
      stopListening(place.socket);
      closeFd(place.wakeFd);
    }
    throw error;
  }
  const server = new Server(places);
  const groups = groupShares(places, vectors);
  try {
    await Promise.all(
      places.map((place, i) => {
        const { socket: listening, wakeFd, life, config } = place;
        const group = groups?.[i];
        const data: ThreadData = {
          name: listening.path,
          config,
          vectors,
          identity,
          faults,
          allowShrinkable: allowShrinkableMemory,
          mapDoorbells,
          functions: places.length,
          limits,
          listenFd: listening.fd,
          wakeFd,
          life,
          group,
          trace,
        };
        return start(server, place, data, group?.others.map(({ port }) => port) ?? [], onLog);
      }),
    );
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

function start(server: Server, place: Place, data: ThreadData, ports: MessagePort[], log: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(threadEntry(), { workerData: data, transferList: ports, execArgv: [], name: `sdxi ${data.name}` });
    place.worker = worker;
    const fail = (cause: unknown) => {
      reject(
        new SdxiError(
          'ERR_SDXI_SYSTEM',
          `the thread of ${data.name} did not start: ${cause instanceof Error ? cause.message : String(cause)}`,
          {
            cause,
            hint: 'build the package first (npm run build)',
          },
        ),
      );
    };
    const timer = setTimeout(() => fail(`not ready within ${START_MS} ms`), START_MS);
    let last: unknown;
    place.ended = new Promise((ended) => {
      worker.once('exit', (code) => {
        clearTimeout(timer);
        Atomics.store(new Int32Array(data.life), 0, Life.GONE);
        server.gone(place);
        fail(last ?? `it ended with code ${code}`);
        ended();
      });
    });
    worker.on('error', (error) => {
      last = error;
      log(`${data.name}: the function's thread has ended: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    });
    worker.on('message', (news: ThreadNews) => {
      if (news.kind === 'log') {
        log(news.line);
        return;
      }
      clearTimeout(timer);
      resolve();
    });
  });
}
