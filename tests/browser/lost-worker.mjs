/** Loaded in a worker before the SDK's: loses its GPU devices when it is told to. */

const devices = [];
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...descriptor) {
  const device = await requestDevice.apply(this, descriptor);
  devices.push(device);
  return device;
};

const channel = new BroadcastChannel("gpu");
channel.onmessage = () => devices.splice(0).forEach((device) => device.destroy());
