using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class PodCgroupNameTests
{
    private const string Uid = "0764ffc5-fbbf-4d2a-b69d-70aebde3ef57";
    private const string Id = "b7dc91347d1a098271e5b87b8c2127a8847b69898ced6778859ab5ca2df00acd";

    [Theory]
    [InlineData("kubepods", true)]
    [InlineData("kubepods.slice", true)]
    [InlineData("kubelet-kubepods.slice", true)]
    [InlineData("system.slice", false)]
    [InlineData("kubepods-burstable.slice", false)]
    public void the_root_of_pods_is_known_with_both_drivers(string name, bool root) => Assert.Equal(root, PodCgroupName.IsRoot(name));

    [Theory]
    [InlineData("burstable", true)]
    [InlineData("besteffort", true)]
    [InlineData("kubepods-besteffort.slice", true)]
    [InlineData("kubelet-kubepods-burstable.slice", true)]
    [InlineData("kubepods-burstable-pod0764ffc5_fbbf_4d2a_b69d_70aebde3ef57.slice", false)]
    public void the_classes_of_service_are_known_with_both_drivers(string name, bool isClass) => Assert.Equal(isClass, PodCgroupName.IsClass(name));

    [Theory]
    [InlineData("pod" + Uid, Uid)]
    [InlineData("kubepods-pod0764ffc5_fbbf_4d2a_b69d_70aebde3ef57.slice", Uid)]
    [InlineData("kubepods-burstable-pod0764ffc5_fbbf_4d2a_b69d_70aebde3ef57.slice", Uid)]
    [InlineData("kubelet-kubepods-besteffort-pod0764ffc5_fbbf_4d2a_b69d_70aebde3ef57.slice", Uid)]
    [InlineData("kubepods-pod9a8f4c2d1e0b7a6f5e4d3c2b1a098f7e.slice", "9a8f4c2d1e0b7a6f5e4d3c2b1a098f7e")]
    [InlineData("kubepods-burstable.slice", null)]
    [InlineData("burstable", null)]
    [InlineData("pod", null)]
    [InlineData("pod with a space", null)]
    public void a_pods_folder_tells_its_uid(string name, string? uid) => Assert.Equal(uid, PodCgroupName.PodUid(name));

    [Theory]
    [InlineData(Id, Id)]
    [InlineData("cri-containerd-" + Id + ".scope", Id)]
    [InlineData("crio-" + Id + ".scope", Id)]
    [InlineData("crio-" + Id, Id)]
    [InlineData("crio-conmon-" + Id + ".scope", null)]
    [InlineData("crio-conmon-" + Id, null)]
    [InlineData("init", null)]
    public void a_containers_folder_tells_its_id(string name, string? id) => Assert.Equal(id, PodCgroupName.ContainerId(name));
}
