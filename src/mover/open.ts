import { checkDuration, checkLimits, checkNames, checkOptions } from '../bus/checks.js';
import { type OpenBusOptions, openBus } from '../bus/index.js';
import { type CompletionMode, type Context, IovaSpace, SdxiDriver } from '../driver/index.js';
import { AbortError, ArgumentError } from '../errors.js';
import { Channel } from './channel.js';
import { MemoryTable } from './memory.js';
import { Mover } from './mover.js';

export interface OpenOptions {
  /** So many functions of each URI; default 1. Work is spread over all. */
  functions?: number;
  /** Descriptors in the ring of each function; default 4096. */
  ringEntries?: number;
  /** How completions are waited for; default `adaptive`. */
  completion?: CompletionMode;
  /** For operations that name no timeout; default 30000, and 2 ms for each MiB that is on its way. */
  timeoutMs?: number;
  /** For state changes and administrative operations; default 1000. */
  adminTimeoutMs?: number;
  /** Ends the opening. */
  signal?: AbortSignal;
  /** For the bus: limits of an embedded function, for instance. */
  bus?: OpenBusOptions;
}

const OPEN_OPTIONS: readonly (keyof OpenOptions)[] = [
  'functions',
  'ringEntries',
  'completion',
  'timeoutMs',
  'adminTimeoutMs',
  'signal',
  'bus',
];

/** Functions that one mover may have. */
const FUNCTIONS_MAX = 64;

/**
 * Opens functions and brings them up.
 * @param uri `embedded:[?option=value&…]`, or several: work is then spread over all of them
 * @throws SdxiError ERR_SDXI_URI, ERR_SDXI_UNSUPPORTED; ArgumentError; FunctionError, TimeoutError, AbortError
 * @example
 * const mover = await open();
 * const from = mover.alloc(1 << 20);
 * const to = mover.alloc(1 << 20);
 * await mover.copy(from, to);
 * await mover.close();
 */
export async function open(uri: string | readonly string[] = 'embedded:', options: OpenOptions = {}): Promise<Mover> {
  checkLimits(options);
  checkNames(options, OPEN_OPTIONS);
  checkDuration(options.adminTimeoutMs, 'adminTimeoutMs');
  checkOptions(options.bus, 'options.bus');
  const { functions = 1, ringEntries = 4096, completion, timeoutMs = 30_000, adminTimeoutMs, signal } = options;
  const uris = Array.isArray(uri) ? (uri as readonly string[]) : [uri as string];
  const count = uris.length * (Number.isInteger(functions) ? functions : 0);
  if (count < 1 || count > FUNCTIONS_MAX) {
    throw new ArgumentError(`a mover cannot have ${String(functions)} functions of ${uris.length} URIs`, {
      hint: `1 … ${FUNCTIONS_MAX}`,
      fields: { functions },
    });
  }
  const iovas = new IovaSpace();
  const drivers: SdxiDriver[] = [];
  try {
    const contexts: Context[] = [];
    for (const target of uris) {
      for (let n = 0; n < functions; n++) {
        if (signal?.aborted) throw new AbortError('opening', { cause: signal.reason });
        const bus = await openBus(target, options.bus);
        const driver = await SdxiDriver.open(bus, { iovas, adminTimeoutMs, timeoutMs, signal });
        drivers.push(driver);
        const most = driver.capabilities.maxRingEntries;
        const entries = ringEntries > most ? most : ringEntries;
        contexts.push(await driver.createContext({ ringEntries: entries, completion, signal }));
      }
    }
    const channels = drivers.map((driver, i) => new Channel(driver, contexts[i]));
    return new Mover(channels, new MemoryTable(drivers, iovas), timeoutMs);
  } catch (error) {
    await Promise.allSettled(drivers.map((driver) => driver.close()));
    throw error;
  }
}
