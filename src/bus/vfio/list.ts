import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { SdxiError } from '../../errors.js';
import type { FoundFunction } from '../bus.js';
import { admit } from './admission.js';
import { type Host, thisHost } from './host.js';

/** The PCI functions of SDXI on this machine, whether they can be opened or not. Opens nothing. */
export function listVfio(host: Host = thisHost()): FoundFunction[] {
  return host.sysfs.sdxiFunctions().map((found) => {
    const { address, ids, driver, group } = found;
    const driven = driver === undefined ? 'no driver' : `driver ${driver}`;
    const description = `PCI function ${ids}, ${driven}, ${group === undefined ? 'no IOMMU group' : `IOMMU group ${group}`}`;
    return { uri: `vfio:${address}`, description, hint: obstacle(host, address) };
  });
}

function obstacle(host: Host, address: string): string | undefined {
  try {
    const { group } = admit(host, address);
    for (const name of ['vfio', String(group)]) {
      const path = join(host.dev, 'vfio', name);
      try {
        accessSync(path, constants.R_OK | constants.W_OK);
      } catch (error) {
        return `${path} cannot be opened (${(error as NodeJS.ErrnoException).code}): sdxi info vfio:${address} says what to do`;
      }
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof SdxiError)) throw error;
    return error.hint;
  }
}
