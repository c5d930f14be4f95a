import type { Bus } from '../../src/bus/index.js';
import { InlineBus } from '../../src/bus/index.js';
import { Reg } from '../../src/spec/index.js';

/** A bus with some of its methods replaced; `bus` is the one behind. */
export function broken(replace: (bus: InlineBus) => Partial<Bus>, { uri = 'embedded:?inline=1' } = {}): Bus {
  const bus = new InlineBus(uri);
  const replaced = replace(bus) as Record<PropertyKey, unknown>;
  return new Proxy(bus as Bus, {
    get(target, key) {
      if (key in replaced) return replaced[key];
      const value = Reflect.get(target, key) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Registers read through `change`. */
export function misread(change: (offset: number, value: bigint) => bigint): Bus {
  return broken((bus) => ({ readRegister: (offset) => change(offset, bus.readRegister(offset)) }));
}

/** One register with other bits. */
export function misreadOne(of: keyof typeof Reg, flip: bigint): Bus {
  return misread((offset, value) => (offset === Reg[of] ? value ^ flip : value));
}

/** The same function under a name that is not ours. */
export const FOREIGN = 'vfio:0000:c4:00.1';
