//! Opens devices, and is the only place that reads tensors back.
//!
//! A browser cannot wait, so every read is asynchronous; natively [`block_on`] drives the same
//! futures. Errors that the GPU reports outside a call (a shader that does not validate, a lost
//! device) are kept and returned by the next read, never dropped.

#[cfg(target_family = "wasm")]
pub(crate) mod browser;
mod started;

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Int, Tensor};
use serde::Serialize;

#[cfg(feature = "wgpu")]
use crate::kernels::gpu::Adapter;

use crate::kernels;
use crate::{Error, ErrorKind, Result};
use started::Started;

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A GPU: WebGPU in the browser; Vulkan, Metal or DX12 natively.
    Gpu,
    /// The CPU, through burn-flex.
    Cpu,
    /// The first GPU of NVIDIA's CUDA, natively, with burn's own operations: made for training, which needs no
    /// kernels of ours there.
    Cuda,
}

/// What a device says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterInfo {
    /// Maker of the hardware or of the software renderer.
    pub vendor: String,
    /// Family, such as `ampere` or `swiftshader`.
    pub architecture: String,
    /// Model, where the platform tells.
    pub device: String,
    /// Free text.
    pub description: String,
    /// Whether the adapter is software.
    pub is_fallback_adapter: bool,
    /// WebGPU features of the adapter, sorted.
    pub features: Vec<String>,
}

/// An open device.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// The handle for tensors.
    pub device: Device,
    /// What it says about itself.
    pub adapter: AdapterInfo,
    kind: DeviceKind,
    faults: Faults,
    halves: bool,
}

/// The GPU runtime can be initialised once a process; later calls share it.
#[cfg(feature = "wgpu")]
static GPU: Mutex<Option<OpenDevice>> = Mutex::new(None);

/// Errors that arrived outside a call.
#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<Option<(ErrorKind, String)>>>);

impl Faults {
    #[cfg(feature = "wgpu")]
    fn report(&self, kind: ErrorKind, message: String) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert((kind, message));
    }

    /// The first fault since the last look. A lost device stays lost.
    fn take(&self) -> Result<()> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match &*slot {
            Some((ErrorKind::DeviceLost, _)) => slot.clone(),
            _ => slot.take(),
        };
        fault.map_or(Ok(()), |(kind, message)| Err(Error::new(kind, message)))
    }
}

impl OpenDevice {
    /// Opens a device.
    ///
    /// # Errors
    /// [`ErrorKind::WebgpuUnavailable`] when there is no adapter, [`ErrorKind::FeatureMissing`]
    /// when it lacks what the engine needs or this build has no such device.
    pub async fn open(kind: DeviceKind) -> Result<Self> {
        match kind {
            DeviceKind::Cpu => Self::open_cpu(),
            DeviceKind::Gpu => Self::open_gpu().await,
            DeviceKind::Cuda => Self::open_cuda(),
        }
    }

    #[cfg(feature = "flex")]
    fn open_cpu() -> Result<Self> {
        let adapter = AdapterInfo {
            vendor: "cpu".into(),
            architecture: std::env::consts::ARCH.into(),
            description: "burn-flex".into(),
            ..AdapterInfo::default()
        };
        Ok(Self {
            device: Device::flex(),
            adapter,
            kind: DeviceKind::Cpu,
            faults: Faults::default(),
            halves: false,
        })
    }

    #[cfg(not(feature = "flex"))]
    fn open_cpu() -> Result<Self> {
        Err(Error::new(ErrorKind::FeatureMissing, "this build has no CPU device (feature `flex`)"))
    }

    #[cfg(feature = "wgpu")]
    async fn open_gpu() -> Result<Self> {
        if let Some(open) = GPU.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            open.faults.take()?;
            return Ok(open);
        }
        #[cfg(target_family = "wasm")]
        let probed = probe().await?;
        // One submit for a whole decoding step: the default splits it into several.
        const TASKS_MAX: usize = 256;
        let options = Device::wgpu_options().tasks_max(TASKS_MAX);
        let (device, setup) = options.init_with_setup_async().await.map_err(|e| {
            Error::new(ErrorKind::WebgpuUnavailable, "no GPU adapter could be opened").with_source(e)
        })?;
        #[cfg(target_family = "wasm")]
        let adapter = probed;
        #[cfg(not(target_family = "wasm"))]
        let adapter = {
            let info = setup.adapter.get_info();
            let subgroups = setup.device.features().contains(burn::tensor::wgpu::wgpu::Features::SUBGROUP);
            Adapter::set_neighbours(if subgroups { info.subgroup_min_size } else { 0 });
            native_adapter(&info)
        };
        let kind = if adapter.is_fallback_adapter { Adapter::Software } else { Adapter::Hardware };
        kind.set();
        let faults = Faults::default();
        let uncaptured = faults.clone();
        setup.device.on_uncaptured_error(Arc::new(move |error: burn::tensor::wgpu::wgpu::Error| {
            use burn::tensor::wgpu::wgpu::Error as WgpuError;
            let kind = match error {
                WgpuError::OutOfMemory { .. } => ErrorKind::OutOfMemory,
                _ => ErrorKind::Gpu,
            };
            uncaptured.report(kind, format!("the GPU reported: {error}"));
        }));
        let lost = faults.clone();
        setup.device.set_device_lost_callback(move |reason, message| {
            let message = format!("the GPU device was lost ({reason:?}): {message}");
            #[cfg(target_family = "wasm")]
            browser::lost(&message);
            lost.report(ErrorKind::DeviceLost, message);
        });
        #[cfg(target_family = "wasm")]
        browser::keep(setup.device.clone());
        // A renderer in software computes in f32 either way and would only convert more.
        let halves = kind == Adapter::Hardware && has_halves(&setup.adapter);
        let open = Self { device, adapter, kind: DeviceKind::Gpu, faults, halves };
        GPU.lock().unwrap_or_else(PoisonError::into_inner).replace(open.clone());
        Ok(open)
    }

    #[cfg(not(feature = "wgpu"))]
    async fn open_gpu() -> Result<Self> {
        Err(Error::new(ErrorKind::FeatureMissing, "this build has no GPU device (feature `wgpu`)"))
    }

    #[cfg(feature = "cuda")]
    fn open_cuda() -> Result<Self> {
        let device = cuda_devices()?.swap_remove(0);
        let name = device.identity().map_or_else(String::new, |identity| identity.name);
        let adapter = AdapterInfo {
            vendor: "nvidia".into(),
            architecture: "cuda".into(),
            device: name,
            description: "burn-cuda".into(),
            ..AdapterInfo::default()
        };
        Ok(Self { device, adapter, kind: DeviceKind::Cuda, faults: Faults::default(), halves: false })
    }

    #[cfg(not(feature = "cuda"))]
    fn open_cuda() -> Result<Self> {
        Err(Error::new(ErrorKind::FeatureMissing, "this build has no CUDA device (feature `cuda`)"))
    }

    /// Whether activations and float weights are halves here; sums are in f32 all the same.
    pub fn halves(&self) -> bool {
        self.halves
    }

    /// The same device with another answer to [`halves`](Self::halves): for tests and comparisons.
    ///
    /// # Errors
    /// [`ErrorKind::FeatureMissing`] when the adapter lacks `shader-f16`.
    pub fn with_halves(mut self, halves: bool) -> Result<Self> {
        if halves && !self.device.supports_dtype(DType::F16) {
            return Err(Error::new(ErrorKind::FeatureMissing, "the adapter lacks shader-f16"));
        }
        self.halves = halves;
        Ok(self)
    }

    /// Whether it is a GPU or the CPU.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Hands over what was launched so far, so that the device begins without waiting for more.
    pub fn flush(&self) {
        // What goes wrong on the device is kept and returned by the next read.
        let _ = self.device.flush();
    }

    /// Bytes of GPU memory that tensors use, and that are held for them; zeros on the CPU.
    pub fn memory(&self) -> [u64; 2] {
        kernels::memory(&self.device)
    }

    /// Gives GPU memory back that no tensor uses any more.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when the runtime refuses.
    pub fn release(&self) -> Result<()> {
        kernels::release(&self.device)
            .map_err(|why| Error::new(ErrorKind::Gpu, "memory cannot be given back").with_source(why))
    }

    /// Begins to read integers back, row-major, and returns at once; what is launched meanwhile does
    /// not change the answer.
    pub fn start_reading<const D: usize>(
        &self,
        tensor: Tensor<D, Int>,
    ) -> impl Future<Output = Result<Vec<i32>>> + use<D> {
        let faults = self.faults.clone();
        Started::new(async move {
            let values = kernels::read_integers(tensor).await;
            faults.take()?;
            values.map_err(unreadable)
        })
    }

    /// Gives a GPU up, with all memory on it, tensors included; it cannot be opened again in this module.
    #[cfg(target_family = "wasm")]
    pub(crate) fn close(&self) {
        if self.kind == DeviceKind::Gpu {
            browser::destroy();
        }
    }

    /// Reads tensors back side by side, row-major: one wait for all of them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_all(&self, tensors: Vec<Tensor<2>>) -> Result<Vec<Vec<f32>>> {
        let started: Vec<_> =
            tensors.into_iter().map(|tensor| Started::new(kernels::read_floats(tensor))).collect();
        let mut all = Vec::with_capacity(started.len());
        for values in started {
            all.push(values.await);
        }
        #[cfg(target_family = "wasm")]
        if self.kind == DeviceKind::Cpu {
            browser::yield_to_events().await;
        }
        self.faults.take()?;
        all.into_iter().map(|values| values.map_err(unreadable)).collect()
    }

    /// Reads a tensor back, row-major.
    ///
    /// # Errors
    /// What the GPU reported since the last read; [`ErrorKind::Gpu`] when the read itself fails.
    pub async fn read<const D: usize>(&self, tensor: Tensor<D>) -> Result<Vec<f32>> {
        let values = kernels::read_floats(tensor).await;
        #[cfg(target_family = "wasm")]
        if self.kind == DeviceKind::Cpu {
            // A GPU's read turns the event loop by itself; the CPU's never waits.
            browser::yield_to_events().await;
        }
        self.faults.take()?;
        values.map_err(unreadable)
    }
}

/// Every GPU that CUDA's driver shows, at least one.
///
/// # Errors
/// [`ErrorKind::FeatureMissing`] without a driver or a GPU.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> Result<Vec<Device>> {
    let missing = |message: &'static str| Error::new(ErrorKind::FeatureMissing, message);
    let devices: Vec<Device> = Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter().collect();
    if devices.is_empty() {
        return Err(missing("CUDA's driver is not installed, or shows no GPU"));
    }
    Ok(devices)
}

fn unreadable(why: String) -> Error {
    Error::new(ErrorKind::Gpu, "reading from the device failed").with_source(why)
}

/// Asks the browser for its adapter and checks that the engine could run on it.
///
/// # Errors
/// [`ErrorKind::WebgpuUnavailable`] and [`ErrorKind::FeatureMissing`], as [`OpenDevice::open`].
#[cfg(all(feature = "wgpu", target_family = "wasm"))]
pub async fn probe() -> Result<AdapterInfo> {
    browser::probe_adapter().await
}

#[cfg(feature = "wgpu")]
fn has_halves(adapter: &burn::tensor::wgpu::wgpu::Adapter) -> bool {
    adapter.features().contains(burn::tensor::wgpu::wgpu::Features::SHADER_F16)
}

#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
fn native_adapter(info: &burn::tensor::wgpu::wgpu::AdapterInfo) -> AdapterInfo {
    AdapterInfo {
        vendor: info.driver.clone(),
        architecture: format!("{:?}", info.backend).to_lowercase(),
        device: info.name.clone(),
        description: info.driver_info.clone(),
        is_fallback_adapter: info.device_type == burn::tensor::wgpu::wgpu::DeviceType::Cpu,
        features: Vec::new(),
    }
}

/// Runs a future to its end on this thread, which sleeps while there is nothing to do; for native callers.
#[cfg(not(target_family = "wasm"))]
pub fn block_on<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};

    /// Wakes the thread that waits.
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
