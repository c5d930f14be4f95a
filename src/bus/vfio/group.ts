/** From a PCI function to an open device: container, group, device. Each call that can fail for a reason that has a cure names it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SdxiError } from '../../errors.js';
import { bindCommands, VFIO_DRIVER } from './admission.js';
import { EACCES, EBUSY, EINVAL, ENODEV, ENOENT, EPERM, errnoName, failed } from './errno.js';
import type { Host } from './host.js';
import type { PciFunction } from './sysfs.js';
import { API_VERSION, GROUP_STATUS_BYTES, GroupFlag, structure, TYPE1V2_IOMMU, Vfio } from './uapi.js';

/** Drivers that touch no memory: a group may have them beside the function. */
const HARMLESS = [VFIO_DRIVER, 'pcieport', 'pci-stub'];

/** Open files of one function. The device first, the container last, is how they are closed. */
export interface VfioFiles {
  readonly container: number;
  readonly group: number;
  readonly device: number;
}

export function closeFiles(host: Host, { device, group, container }: VfioFiles): void {
  for (const fd of [device, group, container]) if (fd >= 0) host.close(fd);
}

/**
 * Opens a function with an address space of its own.
 * @throws SdxiError ERR_SDXI_BUSY, ERR_SDXI_STATE, ERR_SDXI_SYSTEM, ERR_SDXI_UNSUPPORTED; nothing stays open then
 */
export function openFunction(host: Host, found: PciFunction & { readonly group: number }): VfioFiles {
  const files = { container: -1, group: -1, device: -1 };
  try {
    files.container = openContainer(host);
    files.group = openGroup(host, found);
    enter(host, files, found);
    files.device = openDevice(host, files.group, found);
    return files;
  } catch (error) {
    closeFiles(host, files);
    throw error;
  }
}

function openContainer(host: Host): number {
  const path = join(host.dev, 'vfio/vfio');
  const container = host.open(path);
  if (container < 0) {
    if (existsSync(join(host.dev, 'vfio/devices')) && container === -ENOENT) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'this kernel offers VFIO through iommufd only, which this version does not speak', {
        hint: 'take a kernel with CONFIG_VFIO_CONTAINER, or CONFIG_IOMMUFD_VFIO_CONTAINER and a link /dev/vfio/vfio to /dev/iommu',
        fields: { path },
      });
    }
    throw cannotOpen(path, container, 'load the module: modprobe vfio-pci (and vfio_iommu_type1)');
  }
  try {
    const version = host.ioctl(container, Vfio.GET_API_VERSION, 0);
    if (version < 0) throw failed('VFIO_GET_API_VERSION', version, `${path} is no VFIO container`);
    if (version !== API_VERSION) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', `VFIO has version ${version} here`, { hint: `this bus speaks version ${API_VERSION}` });
    }
    if (host.ioctl(container, Vfio.CHECK_EXTENSION, TYPE1V2_IOMMU) !== 1) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'VFIO offers no type1v2 IOMMU here', {
        hint: 'load the module: modprobe vfio_iommu_type1',
      });
    }
    return container;
  } catch (error) {
    host.close(container);
    throw error;
  }
}

function openGroup(host: Host, { address, group }: PciFunction & { readonly group: number }): number {
  if (existsSync(join(host.dev, `vfio/noiommu-${group}`))) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `no IOMMU watches over ${address}: vfio-pci has it in no-IOMMU mode`, {
      hint: 'a function that can reach all memory is not opened: turn the IOMMU on in firmware and kernel',
      fields: { function: address, group },
    });
  }
  const path = join(host.dev, `vfio/${group}`);
  const fd = host.open(path);
  if (fd === -EBUSY) {
    throw new SdxiError('ERR_SDXI_BUSY', `IOMMU group ${group} of ${address} is open already`, {
      hint: `one process at a time has a group, once; fuser -v ${path} names it`,
      fields: { function: address, group, path },
    });
  }
  if (fd < 0) throw cannotOpen(path, fd, `the file appears once ${VFIO_DRIVER} has the function: ${bindCommands({ address }).join('; ')}`);
  const status = structure(GROUP_STATUS_BYTES);
  status.view.setUint32(0, GROUP_STATUS_BYTES, true);
  const result = host.ioctl(fd, Vfio.GROUP_GET_STATUS, status.bytes);
  const flags = status.view.getUint32(4, true);
  try {
    if (result < 0) throw failed('VFIO_GROUP_GET_STATUS', result, `${path} is no VFIO group`);
    if ((flags & GroupFlag.VIABLE) === 0) throw notViable(host, address, group);
  } catch (error) {
    host.close(fd);
    throw error;
  }
  return fd;
}

function notViable(host: Host, address: string, group: number): SdxiError {
  const others = host.sysfs
    .members(group)
    .filter((one) => one.address !== address && one.driver !== undefined && !HARMLESS.includes(one.driver));
  const named = others.map((one) => `${one.address} (${one.ids}, driver ${one.driver})`).join(', ');
  const cure = others.map((one) => bindCommands(one).slice(1).join('; ')).join('; ');
  return new SdxiError(
    'ERR_SDXI_STATE',
    `IOMMU group ${group} of ${address} is shared with ${named || 'a device that another driver has'}`,
    {
      hint: `the IOMMU cannot tell them apart, so they go to ${VFIO_DRIVER} together${cure && `: ${cure}`}; or move the card to another slot`,
      fields: { function: address, group, others: others.map((one) => one.address) },
    },
  );
}

function enter(host: Host, { container, group }: VfioFiles, { address, group: number }: PciFunction): void {
  const argument = structure(4);
  argument.view.setInt32(0, container, true);
  const set = host.ioctl(group, Vfio.GROUP_SET_CONTAINER, argument.bytes);
  if (set < 0) throw failed('VFIO_GROUP_SET_CONTAINER', set, 'see dmesg', { function: address, group: number });
  const iommu = host.ioctl(container, Vfio.SET_IOMMU, TYPE1V2_IOMMU);
  if (iommu === -EPERM) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'the IOMMU does not remap interrupts, so a device could forge them', {
      hint: 'turn interrupt remapping on (intel_iommu=on intremap=on; QEMU: intel-iommu,intremap=on), or accept the risk: modprobe vfio_iommu_type1 allow_unsafe_interrupts=1',
      fields: { function: address, group: number },
    });
  }
  if (iommu < 0) {
    throw failed('VFIO_SET_IOMMU', iommu, `the IOMMU would not take group ${number}: see dmesg`, { function: address, group: number });
  }
}

function openDevice(host: Host, group: number, { address }: PciFunction): number {
  const name = structure(address.length + 1);
  name.bytes.set(Buffer.from(address));
  const fd = host.ioctl(group, Vfio.GROUP_GET_DEVICE_FD, name.bytes);
  if (fd >= 0) return fd;
  if (fd === -ENODEV) {
    throw new SdxiError('ERR_SDXI_STATE', `${address} left ${VFIO_DRIVER} a moment ago`, {
      hint: `bind it again: ${bindCommands({ address }).join('; ')}`,
      fields: { function: address },
    });
  }
  const busy = fd === -EBUSY || fd === -EINVAL;
  throw failed('VFIO_GROUP_GET_DEVICE_FD', fd, busy ? 'its driver would not open it: see dmesg' : `see dmesg for ${address}`, {
    function: address,
  });
}

function cannotOpen(path: string, result: number, missing: string): SdxiError {
  if (result === -ENOENT || result === -ENODEV) {
    return new SdxiError('ERR_SDXI_UNSUPPORTED', `there is no ${path} (${errnoName(result)})`, { hint: missing, fields: { path } });
  }
  if (result === -EACCES || result === -EPERM) {
    return new SdxiError('ERR_SDXI_SYSTEM', `no permission to open ${path}`, {
      hint: `as root: chown USER ${path}, or for good a udev rule: SUBSYSTEM=="vfio", GROUP="vfio", MODE="0660"; in a container, pass the file in`,
      fields: { path, call: 'open', errno: -result },
    });
  }
  return failed(`open ${path}`, result, 'see dmesg', { path });
}
