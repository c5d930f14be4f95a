/** Whether a PCI function may be opened, and if not, the cure: all that can be told from sysfs, before any device file is touched. */
import { SdxiError } from '../../errors.js';
import type { Host } from './host.js';
import { type PciFunction, SDXI_CLASS } from './sysfs.js';

export const VFIO_DRIVER = 'vfio-pci';

/** Commands for root that give a function to vfio-pci. They are printed, never run: whoever uses the function loses it. */
export function bindCommands({ address, driver }: Pick<PciFunction, 'address' | 'driver'>): string[] {
  const folder = `/sys/bus/pci/devices/${address}`;
  return [
    'modprobe vfio-pci',
    `echo ${VFIO_DRIVER} > ${folder}/driver_override`,
    ...(driver === undefined ? [] : [`echo ${address} > ${folder}/driver/unbind`]),
    `echo ${address} > /sys/bus/pci/drivers_probe`,
  ];
}

/**
 * The function that may be opened.
 * @throws SdxiError ERR_SDXI_URI when there is none, ERR_SDXI_UNSUPPORTED when it is none of SDXI's or no IOMMU watches over it,
 * ERR_SDXI_STATE when it is not vfio-pci's
 */
export function admit(host: Host, address: string): PciFunction & { readonly group: number } {
  const found = host.sysfs.find(address);
  const fields = { function: address };
  if (!found) {
    const others = host.sysfs.sdxiFunctions().map((one) => one.address);
    throw new SdxiError('ERR_SDXI_URI', `there is no PCI function ${address}`, {
      hint: others.length > 0 ? `SDXI functions here: ${others.join(', ')}` : 'no SDXI function is here (lspci -Dnd ::1201 shows none)',
      fields: { function: address },
    });
  }
  if (found.classCode !== SDXI_CLASS) {
    throw new SdxiError(
      'ERR_SDXI_UNSUPPORTED',
      `${address} (${found.ids}) is of class ${hex(found.classCode)}, not SDXI's ${hex(SDXI_CLASS)}`,
      {
        hint: 'see sdxi list, or lspci -Dnd ::1201, for the functions that are',
        fields: { ...fields, classCode: found.classCode },
      },
    );
  }
  if (found.group === undefined) throw noIommu(host, found);
  if (found.driver !== VFIO_DRIVER) {
    const who = found.driver === undefined ? 'has no driver' : `belongs to the driver ${found.driver}`;
    throw new SdxiError('ERR_SDXI_STATE', `${address} ${who}: a vfio: bus needs it bound to ${VFIO_DRIVER}`, {
      hint: `as root: ${bindCommands(found).join('; ')}`,
      fields: { ...fields, driver: found.driver },
    });
  }
  return { ...found, group: found.group };
}

const hex = (code: number) => (Number.isNaN(code) ? 'unknown' : `0x${code.toString(16).padStart(6, '0')}`);

function noIommu(host: Host, { address }: PciFunction): SdxiError {
  const cpu = host.proc('cpuinfo');
  const intel = 'intel_iommu=on (and VT-d in the firmware set-up)';
  const amd = 'amd_iommu=on (and AMD-Vi, "IOMMU", in the firmware set-up)';
  const cure = cpu.includes('GenuineIntel')
    ? intel
    : cpu.includes('AuthenticAMD')
      ? amd
      : `${intel}, amd_iommu=on, or what your platform has`;
  return new SdxiError('ERR_SDXI_UNSUPPORTED', `${address} is in no IOMMU group: the IOMMU is off`, {
    hint: `boot with the kernel parameter ${cure}; then /sys/kernel/iommu_groups is not empty`,
    fields: { function: address },
  });
}
