import { checkDuration, checkLimits, checkNames, checkOptions } from '../bus/checks.js';
import { type Bus, type OpenBusOptions, openBus } from '../bus/index.js';
import { type CompletionMode, IovaSpace, SdxiDriver } from '../driver/index.js';
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
 * @param uri `embedded:[?option=value&…]`, or several: work is then spread over all of them. Virtual functions (`embedded:?vfs=4`) are
 * brought up too, and work when an operation names them: `{ function: 'sdxi0/vf1' }`
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
  const channels: Channel[] = [];
  const onRequest = new Set<Channel>();
  const bringUp = async (bus: Bus, name?: string): Promise<Channel> => {
    const driver = await SdxiDriver.open(bus, { name, iovas, adminTimeoutMs, timeoutMs, signal });
    drivers.push(driver);
    const most = driver.capabilities.maxRingEntries;
    const entries = ringEntries > most ? most : ringEntries;
    const channel = new Channel(driver, await driver.createContext({ ringEntries: entries, completion, signal }));
    channels.push(channel);
    return channel;
  };
  try {
    for (const target of uris) {
      for (let n = 0; n < functions; n++) {
        if (signal?.aborted) throw new AbortError('opening', { cause: signal.reason });
        const bus = await openBus(target, options.bus);
        if (drivers.length + 1 + bus.virtualFunctions.length > FUNCTIONS_MAX) {
          await bus.close();
          throw tooMany(target, bus.virtualFunctions.length);
        }
        const physical = await bringUp(bus);
        for (const [i, virtual] of bus.virtualFunctions.entries())
          onRequest.add(await bringUp(virtual, `${physical.driver.name}/vf${i + 1}`));
      }
    }
    return new Mover(channels, new MemoryTable(drivers, iovas), timeoutMs, onRequest);
  } catch (error) {
    // The last one first: a virtual function goes before its physical one.
    for (const driver of drivers.reverse()) await driver.close().catch(() => {});
    throw error;
  }
}

function tooMany(uri: string, vfs: number): ArgumentError {
  return new ArgumentError(`a mover cannot have the ${vfs} virtual functions of ${uri}, too`, {
    hint: `${FUNCTIONS_MAX} functions at most, virtual ones included; open one of them alone: ${uri.split('#')[0]}#vf1`,
    fields: { uri, vfs },
  });
}
