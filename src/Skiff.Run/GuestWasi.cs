using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Wasmtime;
using Wasmtime.Components;

namespace Skiff.Run;

/// <summary>
/// What a guest gets of its container: arguments, environment, streams, folders, network. The engine's own classes have no network, so its
/// C interface is called here (wasi.h, wasmtime/component/linker.h).
/// </summary>
internal static unsafe partial class GuestWasi
{
    /// <summary>Gives it to the guest of a store.</summary>
    /// <param name="store">The store.</param>
    /// <param name="options">What the guest gets.</param>
    /// <returns>What cannot be had, or null.</returns>
    public static string? Give(Store store, RunOptions options)
    {
        var config = NewConfig(); // the store's own once it is set
        if (!SetArguments(config, (nuint)options.Arguments.Length, options.Arguments))
        {
            DeleteConfig(config);
            return "an argument is not UTF-8, which WASI wants";
        }

        InheritEnvironment(config);
        InheritInput(config);
        InheritOutput(config);
        InheritError(config);
        foreach (var folder in options.Directories.Count > 0 ? options.Directories : GuestDirectories.Default(Environment.CurrentDirectory))
        {
            if (!PreopenDirectory(config, folder.HostPath, folder.GuestPath, !folder.ReadOnly))
            {
                DeleteConfig(config);
                return $"the folder {folder.HostPath} cannot be opened (for the guest's {folder.GuestPath})";
            }
        }

        if (options.Network)
        {
            // Any address and any name: the network is the pod's, which has its own walls. Modules of preview 1 have no calls for either.
            InheritNetwork(config);
            AllowNameLookup(config, enable: true);
        }

        Check(SetWasi(ContextOf(store), config));
        GC.KeepAlive(store);
        return null;
    }

    /// <summary>Lets a component call out by HTTP.</summary>
    /// <param name="store">Its store.</param>
    /// <param name="linker">Its linker.</param>
    public static void AddHttp(Store store, ComponentLinker linker)
    {
        SetHttp(ContextOf(store));
        Check(AddHttp(((SafeHandle)HandleOf(linker)).DangerousGetHandle()));
        GC.KeepAlive(store);
        GC.KeepAlive(linker);
    }

    private static nint ContextOf(Store store) => StoreContext(((SafeHandle)HandleOf(store)).DangerousGetHandle());

    private static void Check(nint error)
    {
        if (error != 0)
        {
            throw new InvalidOperationException("the engine refuses WASI for a new store");
        }
    }

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_NativeHandle")]
    [return: UnsafeAccessorType("Wasmtime.Store+Handle, Wasmtime.Dotnet")]
    private static extern object HandleOf(Store store);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_NativeHandle")]
    [return: UnsafeAccessorType("Wasmtime.Components.ComponentLinker+Handle, Wasmtime.Dotnet")]
    private static extern object HandleOf(ComponentLinker linker);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_new")]
    private static partial nint NewConfig();

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_delete")]
    private static partial void DeleteConfig(nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_set_argv", StringMarshalling = StringMarshalling.Utf8)]
    [return: MarshalAs(UnmanagedType.U1)]
    private static partial bool SetArguments(nint config, nuint count, string[] arguments);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_inherit_env")]
    private static partial void InheritEnvironment(nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_inherit_stdin")]
    private static partial void InheritInput(nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_inherit_stdout")]
    private static partial void InheritOutput(nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_inherit_stderr")]
    private static partial void InheritError(nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_preopen_dir", StringMarshalling = StringMarshalling.Utf8)]
    [return: MarshalAs(UnmanagedType.U1)]
    private static partial bool PreopenDirectory(nint config, string hostPath, string guestPath, [MarshalAs(UnmanagedType.U1)] bool mutable);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_inherit_network")]
    private static partial void InheritNetwork(nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasi_config_allow_ip_name_lookup")]
    private static partial void AllowNameLookup(nint config, [MarshalAs(UnmanagedType.U1)] bool enable);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_store_context")]
    private static partial nint StoreContext(nint store);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_context_set_wasi")]
    private static partial nint SetWasi(nint context, nint config);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_context_set_wasi_http")]
    private static partial void SetHttp(nint context);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_component_linker_add_wasi_http")]
    private static partial nint AddHttp(nint linker);
}
