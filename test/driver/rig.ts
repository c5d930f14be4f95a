import { afterEach, onTestFinished } from 'vitest';
import { type Bus, EmbeddedBus, InlineBus, VfioUserBus } from '../../src/bus/index.js';
import { type DriverOptions, SdxiDriver } from '../../src/driver/index.js';
import type { SdxiError } from '../../src/errors.js';
import { SERVED, served } from '../served.js';

interface TestBus {
  readonly name: string;
  /** `options` is the rest of an embedded function's URI. */
  open(options?: string): Promise<Bus>;
}

/** Both ways to have a function in this process. What only these can: be saved, know PASIDs. */
export const EMBEDDED: TestBus[] = [
  { name: 'engine thread', open: (options = '') => EmbeddedBus.open(`embedded:?${options}`) },
  { name: 'inline', open: async (options = '') => new InlineBus(`embedded:?inline=1&${options}`) },
];

/** Or one that is served, to our own client. */
export const BUSES: TestBus[] = SERVED
  ? [{ name: 'vfio-user', open: async (options) => VfioUserBus.open((await served(options))[0]) }]
  : EMBEDDED;

/** Opens drivers that are closed after the test, whatever happens. */
export function driverFixture(): (bus: Bus, options?: DriverOptions) => Promise<SdxiDriver> {
  const opened: SdxiDriver[] = [];
  afterEach(async () => {
    for (const driver of opened.splice(0)) await driver.close();
  });
  return async (bus, options) => {
    const driver = await SdxiDriver.open(bus, options);
    opened.push(driver);
    return driver;
  };
}

/** The error that a promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<SdxiError> {
  try {
    await promise;
  } catch (error) {
    return error as SdxiError;
  }
  throw new Error('the promise was not rejected');
}

/** The error that an action throws. */
export function thrown(action: () => unknown): SdxiError {
  try {
    action();
  } catch (error) {
    return error as SdxiError;
  }
  throw new Error('nothing was thrown');
}

/** A turn of the event loop. */
export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Closes something at the end of the test. */
export function closing<T extends { close(): unknown }>(thing: T): T {
  onTestFinished(async () => {
    await thing.close();
  });
  return thing;
}

/**
 * A bus with something in between: any member given replaces the bus's own.
 * @example wrap(bus, { readRegister: (offset) => (offset === Reg.STS0 ? 5n : bus.readRegister(offset)) })
 */
export function wrap(bus: Bus, changed: Partial<Bus>): Bus {
  return new Proxy(bus, {
    get(target, name) {
      const value = Object.hasOwn(changed, name) ? changed[name as keyof Bus] : Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
