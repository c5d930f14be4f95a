import { ArgumentError, SdxiError } from '../errors.js';
import { isSocket } from '../native/socket.js';
import type { Bus, FoundFunction } from './bus.js';
import { checkOptions } from './checks.js';
import { EmbeddedBus } from './embedded/embedded.js';
import { InlineBus } from './embedded/inline.js';
import { type EmbeddedOptions, embeddedSettings } from './embedded/options.js';
import { listVfio } from './vfio/list.js';
import { VfioBus } from './vfio/vfio.js';
import { VfioUserBus } from './vfio-user/vfio-user.js';

/** What {@link openBus} takes besides the URI. */
export type OpenBusOptions = EmbeddedOptions;

const LATER: Record<string, string> = {
  chardev: "a context of the kernel driver's device file",
};

/**
 * Opens the way to a function.
 *
 * `embedded:[?option=value&…]` starts one in this process, on its own thread, or on the caller's with `inline=1`. Options are
 * those of FunctionConfig, and `vectors`, `registerTimeoutMs`, `startTimeoutMs`. A fragment opens one of its virtual functions alone:
 * `embedded:?vfs=4#vf1`.
 *
 * `vfio:0000:c4:00.1[?option=value&…]` takes a PCI function that is bound to vfio-pci. Options are `vectors`, `mmio`, `hugepages` and
 * `arenaBytes`; docs/vfio.md explains them.
 *
 * `vfio-user:PATH[?option=value&…]` takes a function that another process serves at a socket (`sdxi serve`). Options are
 * `registerTimeoutMs`, `openTimeoutMs`, `vectors`, `postedWrites`, `mapDoorbells` and `shareMemory`.
 * @throws SdxiError ERR_SDXI_URI for another form, ERR_SDXI_UNSUPPORTED for a bus that this version does not have; ArgumentError for options
 */
export async function openBus(uri: string, options: OpenBusOptions = {}): Promise<Bus> {
  checkOptions(options);
  const scheme = typeof uri === 'string' ? /^([a-z][a-z0-9+.-]*):/i.exec(uri)?.[1] : undefined;
  if (scheme === 'embedded') {
    return embeddedSettings(uri, options).inline ? InlineBus.open(uri, options) : await EmbeddedBus.open(uri, options);
  }
  if (scheme === 'vfio' || scheme === 'vfio-user') {
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined) continue;
      throw new ArgumentError(`a ${scheme}: bus has no option "${name}" outside of its URI`, {
        hint: 'options of embedded functions mean nothing to the function of somebody else',
      });
    }
    return scheme === 'vfio' ? await VfioBus.open(uri) : await VfioUserBus.open(uri);
  }
  if (scheme !== undefined && Object.hasOwn(LATER, scheme)) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `this version has no ${scheme} bus (${LATER[scheme]})`, {
      hint: 'open embedded: instead',
      fields: { uri, scheme },
    });
  }
  throw new SdxiError('ERR_SDXI_URI', `"${String(uri)}" does not say which bus to take`, {
    hint: isSocket(String(uri))
      ? `a served function is vfio-user:${uri}`
      : 'write embedded:[?option=value&…], vfio-user:PATH of a socket, or vfio:ADDRESS of a PCI function',
    fields: { uri },
  });
}

/** What could be opened on this machine, and the PCI functions that could not, with what to do about it. */
export function listFunctions(): FoundFunction[] {
  return [{ uri: 'embedded:', description: 'a software function in this process, on a thread of its own' }, ...listVfio()];
}
