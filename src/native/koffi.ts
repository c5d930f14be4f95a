/** koffi, the one native dependency: loaded on first use, so that importing this package never fails for someone who only decodes descriptors. */
import { createRequire } from 'node:module';
import { SdxiError } from '../errors.js';

type Koffi = typeof import('koffi');
type Library = ReturnType<Koffi['load']>;

let loaded: { koffi: Koffi; library: Library } | undefined;

function load(): { koffi: Koffi; library: Library } {
  if (loaded) return loaded;
  if (process.platform !== 'linux') {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `mapped memory needs Linux, this is ${process.platform}`, {
      hint: 'decoding and encoding work everywhere; run functions and movers on Linux (x64 or arm64)',
    });
  }
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)('koffi') as Koffi;
  } catch (cause) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'koffi, which reaches the system calls, could not be loaded', {
      cause,
      hint: 'install with optional dependencies (npm ci --include=optional); koffi ships prebuilt binaries for linux-x64 and linux-arm64',
    });
  }
  loaded = { koffi, library: koffi.load('libc.so.6') };
  return loaded;
}

export function koffiModule(): Koffi {
  return load().koffi;
}

/** errno of the last call of this thread. */
export function errno(): number {
  return load().koffi.errno();
}

/**
 * Functions of libc by their C declarations, each looked up when it is first called.
 * @typeParam T what they take and return: numbers for everything but `void *`, which is a bigint
 */
export function foreign<T extends { [K in keyof T]: (...args: never[]) => unknown }>(declarations: Readonly<Record<keyof T, string>>): T {
  const functions = {} as T;
  for (const name of Object.keys(declarations) as (keyof T)[]) {
    Object.defineProperty(functions, name, {
      configurable: true,
      enumerable: true,
      get() {
        const value = load().library.func(declarations[name]);
        Object.defineProperty(functions, name, { value });
        return value;
      },
    });
  }
  return functions;
}
